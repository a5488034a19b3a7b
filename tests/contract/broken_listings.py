"""Registry adapters with one fault each in what they report and list, against R1, R2 and R5, by the check."""

import time
from dataclasses import replace

from hamlet_core.api import Endpoint, LocalService, Outcome, RemoveImport, Snapshot, Status, Upsert, hookimpl
from hamlet_core.api.testing import local_service
from hamlet_core.api.testing.memory import MemoryAdapter


class AnotherPort(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                batch = Snapshot(tuple(map(self.moved, batch.services)))
            yield batch

    def moved(self, service):
        return replace(service, endpoints=tuple(Endpoint(address=each.address, port=1) for each in service.endpoints))


class BareAtFirst(AnotherPort):
    """Loses what a service has beside its endpoints, as long as nothing changes."""

    def moved(self, service):
        return LocalService(name=service.name, ports=(), endpoints=service.endpoints)


class OneGoesAllGo(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            plain = isinstance(batch, Snapshot) or all(isinstance(each, Upsert) for each in batch)
            yield batch if plain else Snapshot(())


class BeginsWithWhatWas(MemoryAdapter):
    """Begins each watch with its first snapshot, and tells later what has come since."""

    first = None

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                self.first = self.first or batch
                yield self.first
                batch = tuple(map(Upsert, batch.services))
            yield batch


class ImportsAsLocalAtFirst(MemoryAdapter):
    """Finds out what carries a mark only when something changes."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                yield Snapshot(batch.services + tuple(map(local_service, self.marked())))
            else:
                yield Snapshot(tuple(self.backend.local.values()))

    def marked(self):
        return [name for name, entry in self.backend.by_name.items() if entry.mark is not None]


class ImportsAsLocalLater(ImportsAsLocalAtFirst):
    """Knows what carried a mark when it began."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in MemoryAdapter.registry_watch(self, stop):
            later = (
                () if isinstance(batch, Snapshot) else tuple(Upsert(local_service(each)) for each in self.marked())
            )
            yield batch
            if later:
                yield later


class ImportsOfOthersAsLocalAtFirst(ImportsAsLocalAtFirst):
    def marked(self):
        by_name = self.backend.by_name
        return [name for name in super().marked() if not self._ours(by_name[name])]


class DisturbsAfterARestart(MemoryAdapter):
    """Edits what it finds, where it is to write that again."""

    def _write(self, service, standing):
        known = self.__dict__.setdefault("known", set())
        super()._write(service, standing)
        if service.key not in known and standing is not None:
            self.backend.edit_import(service)
        known.add(service.key)


class LeavesWhatItWroteAgain(MemoryAdapter):
    """Takes nothing out that it has found and written again."""

    def _apply(self, change):
        again = self.__dict__.setdefault("again", set())
        if isinstance(change, RemoveImport) and change.key in again:
            return Outcome(key=change.key, status=Status.APPLIED)
        return super()._apply(change)

    def _write(self, service, standing):
        mine = self.__dict__.setdefault("mine", set())
        if service.key not in mine and standing is not None:
            self.again.add(service.key)
        mine.add(service.key)
        super()._write(service, standing)


class KeepsEdits(MemoryAdapter):
    """Says that it has written over an edit."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        time.sleep(0.05)  # somebody who edits has done so by now
        return outcomes

    def _write(self, service, standing):
        if standing is None or not standing.edited:
            super()._write(service, standing)


class MergesEdits(MemoryAdapter):
    """Leaves an edit that has come since its last call: it is written over the next time."""

    @hookimpl
    def registry_apply(self, changes):
        time.sleep(0.05)  # somebody who edits has done so by now
        came = self.edited() - self.__dict__.get("known", set())
        outcomes = super().registry_apply(changes)
        for name in came & self.backend.by_name.keys():
            self.backend.by_name[name] = replace(self.backend.by_name[name], edited=True)
        self.known = self.edited()
        return outcomes

    def edited(self):
        with self.backend.lock:
            return {name for name, entry in self.backend.by_name.items() if entry.edited}


class ListsEditsAsItsOwn(MergesEdits):
    """Has a digest for what was edited, which is nobody's."""

    @hookimpl
    def registry_imports(self):
        return [replace(each, digest=each.digest or "edited") for each in super().registry_imports()]


class OneIsEditedAllAre(MergesEdits):
    @hookimpl
    def registry_imports(self):
        listed = super().registry_imports()
        return listed if all(each.digest for each in listed) else [replace(each, digest="") for each in listed]


FAULTS = {
    "test_r1_first_comes_a_snapshot_of_all_local_services": [AnotherPort],
    "test_r1_services_that_come_change_and_go_are_seen": [OneGoesAllGo],
    "test_r1_a_service_is_reported_as_it_was_registered": [BareAtFirst],
    "test_r1_each_watch_begins_with_a_snapshot": [BeginsWithWhatWas],
    "test_r2_imports_are_never_reported_as_local": [ImportsAsLocalAtFirst, ImportsAsLocalLater],
    "test_r2_what_another_agent_imported_is_no_local_service_either": [
        ImportsOfOthersAsLocalAtFirst,
        ImportsAsLocalLater,
    ],
    "test_r3_after_an_outage_everything_is_there_again": [ImportsAsLocalAtFirst],
    "test_r5_a_restarted_agent_goes_on_with_what_it_wrote": [DisturbsAfterARestart, LeavesWhatItWroteAgain],
    "test_r5_an_edited_entry_has_no_digest_and_is_written_again": [KeepsEdits],
    "test_r5_an_edit_while_a_batch_is_written_is_seen_or_written_over": [
        KeepsEdits,
        ListsEditsAsItsOwn,
        OneIsEditedAllAre,
    ],
}
GROSS = frozenset({ImportsAsLocalAtFirst})
"""Found wherever a watch begins after an import."""
