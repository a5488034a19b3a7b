"""Registry adapters with one fault each against R1 to R4, by the check that must find it."""

import os
import threading
import time

from hamlet_core.api import (
    LocalService,
    Outcome,
    RegistryUnavailable,
    Remove,
    Snapshot,
    Status,
    Upsert,
    hookimpl,
)
from hamlet_core.api.testing import local_service
from hamlet_core.api.testing.memory import MemoryAdapter


class NoSnapshot(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                batch = tuple(map(Upsert, batch.services))
            yield batch


class OneLess(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            yield Snapshot(batch.services[1:]) if isinstance(batch, Snapshot) else batch


class NoChanges(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                yield batch


class EndpointsAlone(MemoryAdapter):
    """Loses whatever else a service has."""

    @hookimpl
    def registry_watch(self, stop):
        def bare(service):
            return LocalService(name=service.name, ports=(), endpoints=service.endpoints)

        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                yield Snapshot(tuple(map(bare, batch.services)))
            else:
                yield tuple(Upsert(bare(each.service)) if isinstance(each, Upsert) else each for each in batch)


class ChangesOfEndpointsAlone(MemoryAdapter):
    """Takes a service for the same as long as its endpoints are."""

    @hookimpl
    def registry_watch(self, stop):
        known = {}
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                known = {each.name: each.endpoints for each in batch.services}
                yield batch
                continue
            for change in batch:
                if isinstance(change, Remove):
                    known.pop(change.name, None)
                    yield (change,)
                elif known.get(change.service.name) != change.service.endpoints:
                    known[change.service.name] = change.service.endpoints
                    yield (change,)


class ImportsAsLocal(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                ours = tuple(local_service(name) for name in self.backend.by_name)
                batch = Snapshot(batch.services + ours)
            yield batch


class ImportsOfOthersAsLocal(MemoryAdapter):
    """Knows no mark but its own."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                others = (name for name, entry in self.backend.by_name.items() if not self._ours(entry))
                batch = Snapshot(batch.services + tuple(map(local_service, others)))
            yield batch


class ImportsOfOtherRegistriesAsLocal(MemoryAdapter):
    """Knows its mesh's imports, but for those of another registry of it."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                batch = Snapshot(batch.services + tuple(local_service(name) for name in self.of_others()))
            yield batch

    def of_others(self):
        marks = {name: entry.mark for name, entry in self.backend.by_name.items() if entry.mark is not None}
        return [name for name, mark in marks.items() if self.is_anothers(mark)]

    def is_anothers(self, mark):
        return mark.registry != self.context.name


class ImportsOfOtherTrustDomainsAsLocal(ImportsOfOtherRegistriesAsLocal):
    def is_anothers(self, mark):
        return mark.trust_domain != self.context.trust_domain


class LateToFollow(MemoryAdapter):
    """Lists, and begins to follow the changes a little later."""

    @hookimpl
    def registry_watch(self, stop):
        yield Snapshot(tuple(self.backend.local.values()))
        time.sleep(0.3)
        following = super().registry_watch(stop)
        next(following)
        yield from following


class RemembersImports(MemoryAdapter):
    """Knows its imports from local services by memory alone."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.before = set(backend.by_name)

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                batch = Snapshot(batch.services + tuple(map(local_service, self.before)))
            yield batch


class OutageIsEmpty(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        while not stop.is_set():
            try:
                yield from super().registry_watch(stop)
            except RegistryUnavailable:
                yield Snapshot(())
                stop.wait(0.05)


class OutageListsNothing(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        return [] if self.backend.down else super().registry_imports()


class OutageIsDone(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        if self.backend.down:
            return [Outcome(key=change.key, status=Status.APPLIED) for change in changes]
        return super().registry_apply(changes)


class WatchesInSilence(MemoryAdapter):
    """Waits for an answer as long as it takes."""

    @hookimpl
    def registry_watch(self, stop):
        while self.backend.silent:
            time.sleep(0.005)
        yield from super().registry_watch(stop)


class WritesInSilence(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        while self.backend.silent:
            time.sleep(0.005)
        return super().registry_apply(changes)


class SilenceIsConsent(MemoryAdapter):
    """Says what it has sent, not what was answered."""

    @hookimpl
    def registry_apply(self, changes):
        if self.backend.silent:
            return [Outcome(key=change.key, status=Status.APPLIED) for change in changes]
        return super().registry_apply(changes)


class HiddenIsEmpty(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        if self.backend.denied:
            yield Snapshot(())
            stop.wait(20)
        else:
            yield from super().registry_watch(stop)


class HiddenIsGone(MemoryAdapter):
    """Reads everything anew at each change, and believes what it is shown."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            yield Snapshot(()) if self.backend.denied else batch


class WithdrawsForAMoment(MemoryAdapter):
    """Believes what it is shown, and finds out a moment later."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if self.backend.denied:
                yield Snapshot(())
                batch = Snapshot(tuple(self.backend.local.values()))
            yield batch


class WithdrawsOneForAMoment(MemoryAdapter):
    """The same, told of one service at a time."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if self.backend.denied:
                one = next(iter(self.backend.local.values()))
                yield (Remove(one.name),)
                yield (Upsert(one),)
            yield batch


class HiddenIsMissed(MemoryAdapter):
    """Goes on, and never comes to know what changed while it might not look."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if not self.backend.denied:
                yield batch


class HiddenIsNotListed(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        return [] if self.backend.denied else super().registry_imports()


class HiddenIsWritten(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        if self.backend.denied:
            return [Outcome(key=change.key, status=Status.APPLIED) for change in changes]
        return super().registry_apply(changes)


class DeniedForGood(MemoryAdapter):
    """Takes a right that is missing for a fault of the import."""

    @hookimpl
    def registry_apply(self, changes):
        if self.backend.denied:
            return [Outcome(key=change.key, status=Status.REJECTED, reason="403") for change in changes]
        return super().registry_apply(changes)


class NeverStops(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            yield batch
            if stop.wait(0.01) and not self.backend.over.is_set():
                stop._event.clear()


class StopsOnlyLater(MemoryAdapter):
    """Hears of a stop only while it waits."""

    @hookimpl
    def registry_watch(self, stop):
        if stop.is_set():
            self.backend.over.wait()
        yield from super().registry_watch(stop)


class LeavesThreads(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        threading.Thread(target=backend.over.wait, daemon=True).start()


class LeavesAThreadPerWatch(MemoryAdapter):
    """Ends its watch when told to, but not what reads for it."""

    @hookimpl
    def registry_watch(self, stop):
        threading.Thread(target=self.backend.over.wait, daemon=True).start()
        yield from super().registry_watch(stop)


class LeavesThreadsInAnOutage(MemoryAdapter):
    """Ends its watch, but not what reads for it."""

    @hookimpl
    def registry_watch(self, stop):
        try:
            yield from super().registry_watch(stop)
        except RegistryUnavailable:
            threading.Thread(target=self.backend.over.wait, daemon=True).start()
            raise


class LeavesSocketsInAnOutage(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        try:
            yield from super().registry_watch(stop)
        except RegistryUnavailable:
            self.backend.left += os.pipe()
            raise


class LeavesSockets(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        backend.left += os.pipe()


FAULTS = {
    "test_r1_first_comes_a_snapshot_of_all_local_services": [NoSnapshot, OneLess],
    "test_r1_an_empty_registry_yields_an_empty_snapshot": [NoSnapshot],
    "test_r1_services_that_come_change_and_go_are_seen": [NoChanges],
    "test_r1_a_service_is_reported_as_it_was_registered": [EndpointsAlone, ChangesOfEndpointsAlone],
    "test_r1_each_watch_begins_with_a_snapshot": [NoSnapshot],
    "test_r1_what_changes_while_a_watch_begins_is_not_lost": [LateToFollow],
    "test_r2_imports_are_never_reported_as_local": [ImportsAsLocal],
    "test_r2_a_restarted_agent_knows_its_imports_from_local_services": [RemembersImports],
    "test_r2_what_another_agent_imported_is_no_local_service_either": [
        ImportsOfOthersAsLocal,
        ImportsOfOtherRegistriesAsLocal,
        ImportsOfOtherTrustDomainsAsLocal,
    ],
    "test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so": [OutageIsEmpty],
    "test_r3_an_outage_ends_a_watch_and_withdraws_nothing": [OutageIsEmpty],
    "test_r3_after_an_outage_everything_is_there_again": [OutageListsNothing],
    "test_r3_nothing_is_said_to_be_written_in_an_outage": [OutageIsDone],
    "test_r3_a_watch_that_begins_while_the_server_is_silent_yields_nothing_and_says_so": [WatchesInSilence],
    "test_r3_who_writes_while_the_server_is_silent_is_told_in_time": [WritesInSilence, SilenceIsConsent],
    "test_r3_a_watch_without_rights_yields_nothing_and_says_so": [HiddenIsEmpty],
    "test_r3_rights_that_are_taken_away_withdraw_nothing": [
        HiddenIsGone,
        HiddenIsMissed,
        WithdrawsForAMoment,
        WithdrawsOneForAMoment,
    ],
    "test_r3_without_rights_nothing_is_listed_and_nothing_said_to_be_written": [
        HiddenIsNotListed,
        HiddenIsWritten,
        DeniedForGood,
    ],
    "test_r4_a_watch_ends_when_told_to_and_leaves_no_thread": [NeverStops, LeavesAThreadPerWatch],
    "test_r4_a_watch_that_is_told_to_stop_before_it_begins_ends": [StopsOnlyLater],
    "test_r4_a_watch_that_an_outage_ends_leaves_no_thread_and_no_socket": [
        LeavesThreadsInAnOutage,
        LeavesSocketsInAnOutage,
    ],
    "test_r4_an_agent_that_is_closed_leaves_no_thread_and_no_socket": [LeavesThreads, LeavesSockets],
}
GROSS = frozenset({OneLess, NoChanges, LateToFollow, ImportsAsLocal, NeverStops})
