"""Registry adapters with one fault each in what they write, against R6 to R8, by the check that must find it."""

import time
from dataclasses import replace

from hamlet_core.api import Outcome, RemoveImport, StandingImport, Status, WriteImport, hookimpl
from hamlet_core.api.testing.memory import Entry, MemoryAdapter


def applied(change):
    return Outcome(key=change.key, status=Status.APPLIED)


def is_removal(change):
    return isinstance(change, RemoveImport)


class RewritesTheDigest(MemoryAdapter):
    """Loses the digests of what it is told again, and of nothing else with it."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.again = set()

    @hookimpl
    def registry_apply(self, changes):
        standing = {each.key: each.digest for each in self.registry_imports()}
        wanted = {each.key: each.service.digest for each in changes if isinstance(each, WriteImport)}
        self.again = set(wanted) if wanted == standing else set()
        return super().registry_apply(changes)

    @hookimpl
    def registry_imports(self):
        listed = super().registry_imports()
        return [replace(each, digest="") if each.key in self.again else each for each in listed]


class NotesWhatItShouldWrite(MemoryAdapter):
    """Notes the digest of a change where nobody calls a service by it."""

    def _write(self, service, standing):
        notes = self.backend.noted
        if standing is not None and not standing.edited and standing.service.key == service.key:
            notes[service.key] = service.digest
        else:
            notes.pop(service.key, None)
            super()._write(service, standing)

    @hookimpl
    def registry_imports(self):
        listed = super().registry_imports()
        return [
            replace(each, digest=each.digest and self.backend.noted.get(each.key, each.digest)) for each in listed
        ]


class OldDigestForANewAddress(MemoryAdapter):
    def _write(self, service, standing):
        super()._write(service, standing)
        if standing is not None and self.is_moved(service, standing.service):
            written = self.backend.by_name[service.local_name]
            self.backend.by_name[service.local_name] = replace(written, mark=standing.mark)

    def is_moved(self, service, before):
        ways = (service, before)
        same = {(each.key, each.service.description) for each in ways}
        return len(same) == 1 and service != before and all(each.route is None for each in ways)


class ListsTheFirstName(MemoryAdapter):
    """Lists an import under the name that it had first."""

    @hookimpl
    def registry_imports(self):
        listed = super().registry_imports()
        return [replace(each, local_name=self.backend.noted.setdefault(each.key, each.local_name)) for each in listed]

    def _write(self, service, standing):
        self.backend.noted.setdefault(service.key, service.local_name)
        super()._write(service, standing)


class LeavesAShell(MemoryAdapter):
    """Leaves something without a mark where an import has been that moves."""

    @hookimpl
    def registry_apply(self, changes):
        before = dict(self.backend.by_name)
        outcomes = super().registry_apply(changes)
        if self.leaves(changes):
            for change in filter(is_removal, changes):
                if change.local_name not in self.backend.by_name and change.local_name in before:
                    self.backend.by_name[change.local_name] = Entry(before[change.local_name].service, None)
        return outcomes

    def leaves(self, changes):
        return len({change.key for change in changes}) < len(changes)


class LeavesShells(LeavesAShell):
    """Leaves one where several are removed at once."""

    def leaves(self, changes):
        return len(changes) == 3 and all(map(is_removal, changes))


class RefusesWhatIsNotThere(MemoryAdapter):
    def _apply(self, change):
        if is_removal(change) and change.local_name not in self.backend.by_name:
            return Outcome(key=change.key, status=Status.REJECTED, reason="404")
        return super()._apply(change)


class RemovesNothingBesideAWrite(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        written = {each.key for each in changes if isinstance(each, WriteImport)}
        self.left = {each.key for each in changes if is_removal(each)} - written if written else set()
        return super().registry_apply(changes)

    def _apply(self, change):
        return applied(change) if change.key in self.left else super()._apply(change)


class ListsTheLastThatWasRemoved(MemoryAdapter):
    """Lists, where nothing is left, what it has removed."""

    @hookimpl
    def registry_apply(self, changes):
        self.before = super().registry_imports()
        return super().registry_apply(changes)

    @hookimpl
    def registry_imports(self):
        return super().registry_imports() or self.__dict__.get("before", [])


class WritesFewerThanItSays(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        most = 512 if self.is_too_many(changes) else len(changes)
        return [*super().registry_apply(changes[:most]), *map(applied, changes[most:])]

    def is_too_many(self, changes):
        return len(changes) > 512 and not is_removal(changes[-1])


class RemovesFewerThanItSays(WritesFewerThanItSays):
    def is_too_many(self, changes):
        return len(changes) > 512 and is_removal(changes[-1])


class WaitsForOthers(MemoryAdapter):
    """Says of a write that it alone was to make, that what others have will be free in time."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        if len(outcomes) == 1 and outcomes[0].status is Status.REJECTED:
            entry = self.backend.by_name[changes[0].service.local_name]
            return [replace(outcomes[0], status=Status.RETRY)] if entry.mark is None else outcomes
        return outcomes


class ListsOthersWhereItHasNothing(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        return super().registry_imports() or [
            StandingImport(key=entry.service.key, local_name=name, digest=entry.service.digest)
            for name, entry in self.backend.by_name.items()
            if self.is_listed(entry)
        ]

    def is_listed(self, entry):
        return entry.mark is None


class ListsWhatAnotherAgentHas(ListsOthersWhereItHasNothing):
    def is_listed(self, entry):
        return entry.mark is not None and entry.mark.trust_domain == self.context.trust_domain


class CannotLeaveWhatOthersHave(MemoryAdapter):
    """Says of a removal that others are in its way."""

    def _apply(self, change):
        standing = self.backend.by_name.get(change.local_name) if is_removal(change) else None
        if standing is not None and self.is_in_the_way(standing):
            return Outcome(key=change.key, status=Status.REJECTED, reason=change.local_name)
        return super()._apply(change)

    def is_in_the_way(self, standing):
        return standing.mark is None


class CannotLeaveWhatAnotherAgentHas(CannotLeaveWhatOthersHave):
    def is_in_the_way(self, standing):
        return standing.mark is not None and not self._ours(standing)


class LosesARace(MemoryAdapter):
    """Finds, when it writes, that somebody has been there since it began."""

    @hookimpl
    def registry_apply(self, changes):
        before = set(self.backend.by_name)
        if not any(map(is_removal, changes)):
            time.sleep(0.05)  # somebody else is there by now
        outcomes = super().registry_apply(changes)
        rejected = [each.status is Status.REJECTED for each in outcomes]
        came = any(
            no and change.service.local_name not in before for no, change in zip(rejected, changes, strict=True)
        )
        return list(map(self.lost, outcomes)) if came else outcomes

    def lost(self, outcome):
        return outcome


class LosesTheOthersInARace(LosesARace):
    def lost(self, outcome):
        return replace(outcome, status=Status.RETRY)


class NamesNobodyInARace(LosesARace):
    def lost(self, outcome):
        return replace(outcome, reason="conflict") if outcome.status is Status.REJECTED else outcome


class LosesDigestsInARace(MemoryAdapter):
    """Lists, as long as something of others stands in a place of its own, nothing as whole."""

    @hookimpl
    def registry_imports(self):
        places = [self.backend.by_name.get(name) for name in self.backend.names.values()]
        listed = super().registry_imports()
        lost = any(entry is not None and entry.mark is None for entry in places)
        return [replace(each, digest="") for each in listed] if lost else listed


class StopsAtAFailure(MemoryAdapter):
    """Says that it has written what came after a change that failed."""

    @hookimpl
    def registry_apply(self, changes):
        self.backend.reach()
        outcomes = []
        for change in changes:
            failed = any(each.status is Status.REJECTED for each in outcomes)
            outcomes.append(applied(change) if failed else self._apply(change))
        return outcomes


class LargeIsRefusedInSilence(MemoryAdapter):
    def _apply(self, change):
        if isinstance(change, WriteImport) and len(change.service.service.tags) > 1000:
            return Outcome(key=change.key, status=Status.REJECTED, reason="")
        return super()._apply(change)


class LargeIsCut(MemoryAdapter):
    """Says that it has written what it has not."""

    def _apply(self, change):
        large = isinstance(change, WriteImport) and len(change.service.service.tags) > 1000
        return applied(change) if large else super()._apply(change)


FAULTS = {
    "test_r6_a_second_apply_changes_nothing": [RewritesTheDigest],
    "test_r6_a_change_replaces_what_stood": [NotesWhatItShouldWrite, OldDigestForANewAddress],
    "test_r6_an_import_that_moves_leaves_nothing_under_its_old_name": [ListsTheFirstName, LeavesAShell],
    "test_r6_there_is_one_outcome_for_each_change_in_order": [RefusesWhatIsNotThere, RemovesNothingBesideAWrite],
    "test_r6_what_is_removed_leaves_nothing_behind": [ListsTheLastThatWasRemoved, LeavesShells],
    "test_r6_a_thousand_imports_in_one_batch": [WritesFewerThanItSays, RemovesFewerThanItSays],
    "test_r7_an_entry_of_someone_else_is_left_alone_and_named": [
        WaitsForOthers,
        ListsOthersWhereItHasNothing,
        CannotLeaveWhatOthersHave,
    ],
    "test_r7_what_an_agent_wrote_is_not_anothers": [ListsWhatAnotherAgentHas, CannotLeaveWhatAnotherAgentHas],
    "test_r7_an_entry_that_somebody_makes_while_a_batch_is_written_stays_theirs": [
        LosesTheOthersInARace,
        NamesNobodyInARace,
        LosesDigestsInARace,
    ],
    "test_r8_one_change_that_fails_does_not_fail_the_others": [StopsAtAFailure],
    "test_r8_whatever_its_size_a_change_is_applied_or_refused_alone": [LargeIsRefusedInSilence, LargeIsCut],
}
