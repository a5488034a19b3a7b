"""Registry adapters with one fault each against R5 to R8, by the check that must find it."""

import time
from dataclasses import replace

from hamlet_core.api import (
    Outcome,
    RemoveImport,
    StandingImport,
    Status,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing.memory import MemoryAdapter


def names_to_free(changes):
    """The names that removals are about, and no write."""
    written = {each.service.local_name for each in changes if isinstance(each, WriteImport)}
    return {each.local_name for each in changes if isinstance(each, RemoveImport)} - written


class Forgetful(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.backend.by_name.clear()


class NoDigest(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        return [replace(each, digest="") for each in super().registry_imports()]


class BlindToEdits(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        entries = self.backend.by_name
        return [replace(each, digest=entries[each.local_name].mark.digest) for each in super().registry_imports()]


class NotesWhatStands(MemoryAdapter):
    """Notes what stands a little after its write as its own, whoever was there in between."""

    gap = 0.05

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.noted = {}

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        time.sleep(self.gap)
        with self.backend.lock:
            self.noted |= self.backend.by_name
        return outcomes

    @hookimpl
    def registry_imports(self):
        entries = self.backend.by_name
        return [
            replace(each, digest=entries[each.local_name].mark.digest)
            if self.noted.get(each.local_name) is entries[each.local_name]
            else each
            for each in super().registry_imports()
        ]


class NotesWhatStandsSoon(NotesWhatStands):
    gap = 0.0005


class AlwaysWrites(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        self.backend.rewrites += 1
        return super().registry_apply(changes)


class WritesAnewAfterARestart(MemoryAdapter):
    """Takes what it has not written in this life for something to write again."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.known = set()

    def _write(self, service, standing):
        if service.key not in self.known and standing is not None:
            self.backend.rewrites += 1
        self.known.add(service.key)
        super()._write(service, standing)


class WritesOnce(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        known = {each.key for each in self.registry_imports()}
        fresh = [change for change in changes if not (isinstance(change, WriteImport) and change.key in known)]
        done = iter(super().registry_apply(fresh))
        applied = [Outcome(key=change.key, status=Status.APPLIED) for change in changes]
        return [next(done) if change in fresh else each for change, each in zip(changes, applied, strict=True)]


class Backwards(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        return super().registry_apply(changes)[::-1]


class LeavesMoved(MemoryAdapter):
    def _drop(self, key):
        pass


class OnlyFewer(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        return super().registry_apply(changes[:512])


class RemovesByName(MemoryAdapter):
    """Takes out what others have under the name."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        for name in names_to_free(changes):
            if name in self.backend.by_name and not self._ours(self.backend.by_name[name]):
                del self.backend.by_name[name]
        return outcomes


class RemovesAnyOfOurs(MemoryAdapter):
    """Takes out what we have under the name, whatever its key."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        for name in names_to_free(changes):
            if name in self.backend.by_name and self._ours(self.backend.by_name[name]):
                del self.backend.by_name[name]
        return outcomes


class NamesNobody(MemoryAdapter):
    """Refuses, and does not say what is in the way."""

    @hookimpl
    def registry_apply(self, changes):
        return [
            replace(each, reason="taken") if each.status is Status.REJECTED else each
            for each in super().registry_apply(changes)
        ]


class TakesWhatIsThere(MemoryAdapter):
    def _ours(self, entry):
        return True


class LooksTooEarly(MemoryAdapter):
    """Decides on what stood when it began, and writes a little later."""

    @hookimpl
    def registry_apply(self, changes):
        with self.backend.lock:
            before = dict(self.backend.by_name)
        time.sleep(0.05)
        for change in changes:
            if isinstance(change, WriteImport) and change.service.local_name not in before:
                self.backend.by_name.pop(change.service.local_name, None)
        return super().registry_apply(changes)


class TrustsItsMemory(MemoryAdapter):
    """Takes out what it has once written, whatever stands there by now."""

    @hookimpl
    def registry_apply(self, changes):
        names = [
            self.backend.names.get((self._peer(change.key.peer), change.key))
            for change in changes
            if isinstance(change, RemoveImport)
        ]
        outcomes = super().registry_apply(changes)
        written = {each.service.local_name for each in changes if isinstance(each, WriteImport)}
        for name in names:
            if name not in written:
                self.backend.by_name.pop(name, None)
        return outcomes


class ChangesTheirsInARace(MemoryAdapter):
    """Edits, where it takes out what it has once written, what somebody has put there since."""

    @hookimpl
    def registry_apply(self, changes):
        names = [
            self.backend.names.get((self._peer(change.key.peer), change.key))
            for change in changes
            if isinstance(change, RemoveImport)
        ]
        outcomes = super().registry_apply(changes)
        for name in names:
            if name in self.backend.by_name and self.backend.by_name[name].mark is None:
                self.backend.by_name[name] = replace(self.backend.by_name[name], edited=True)
        return outcomes


class TidiesUpAfterARace(MemoryAdapter):
    """Takes out, with the next removal, what stands in the places of earlier ones."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.freed = set()

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        if freed := {each.local_name for each in changes if isinstance(each, RemoveImport)}:
            for name in self.freed - freed:
                self.backend.by_name.pop(name, None)
        self.freed |= freed
        return outcomes


class SaysItStands(MemoryAdapter):
    """Lists what it has written as whole, whatever stands there by now."""

    @hookimpl
    def registry_imports(self):
        listed = list(super().registry_imports())
        known = {each.key for each in listed}
        with self.backend.lock:
            for name, entry in self.backend.by_name.items():
                key = entry.service.key
                if entry.mark is None and (self._peer(key.peer), key) in self.backend.names and key not in known:
                    listed.append(StandingImport(key=key, local_name=name, digest=entry.service.digest))
        return listed


class DropsTheMark(MemoryAdapter):
    def _ours(self, entry):
        return entry.mark is not None


class KnowsNoRegistryNames(MemoryAdapter):
    def _ours(self, entry):
        return entry.mark is not None and entry.mark.trust_domain == self.context.trust_domain


class KnowsNoTrustDomains(MemoryAdapter):
    def _ours(self, entry):
        return entry.mark is not None and entry.mark.registry == self.context.name


class WaitsForAnotherAgent(MemoryAdapter):
    """Says that what another agent has will be free in time."""

    def _apply(self, change):
        outcome = super()._apply(change)
        standing = self.backend.by_name.get(change.service.local_name if isinstance(change, WriteImport) else "")
        if outcome.status is Status.REJECTED and standing is not None and standing.mark is not None:
            return replace(outcome, status=Status.RETRY)
        return outcome


class AllOrNothing(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        names = [change.service.local_name for change in changes if isinstance(change, WriteImport)]
        standing = [self.backend.by_name[name] for name in names if name in self.backend.by_name]
        if all(map(self._ours, standing)):
            return super().registry_apply(changes)
        return [Outcome(key=change.key, status=Status.REJECTED, reason="a batch fails") for change in changes]


class FailsTheNext(MemoryAdapter):
    """Reports a failure at the change after the one that failed."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        statuses = [each.status for each in outcomes]
        return [
            replace(each, status=status, reason="taken")
            for each, status in zip(outcomes, statuses[-1:] + statuses[:-1], strict=True)
        ]


class LargeIsRetried(MemoryAdapter):
    """Does not see that what is too large stays too large."""

    def _apply(self, change):
        if isinstance(change, WriteImport) and len(change.service.service.description) > 100_000:
            return Outcome(key=change.key, status=Status.RETRY, reason="too large")
        return super()._apply(change)


class LargeFailsAll(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        if any(isinstance(each, WriteImport) and len(each.service.service.tags) > 1000 for each in changes):
            return [Outcome(key=change.key, status=Status.REJECTED, reason="413") for change in changes]
        return super().registry_apply(changes)


class CannotSpell(MemoryAdapter):
    def _write(self, service, standing):
        plain = service.service.description.encode("ascii", "replace").decode()
        super()._write(replace(service, service=replace(service.service, description=plain)), standing)


class DropsRoutes(MemoryAdapter):
    """Writes what the owner says, wherever the gateway leads."""

    def _write(self, service, standing):
        super()._write(replace(service, route=None), standing)


FAULTS = {
    "test_r5_a_restarted_agent_finds_every_import_with_its_digest": [Forgetful, NoDigest],
    "test_r5_a_restarted_agent_goes_on_with_what_it_wrote": [WritesAnewAfterARestart],
    "test_r5_an_edited_entry_has_no_digest_and_is_written_again": [BlindToEdits],
    "test_r5_an_edit_while_a_batch_is_written_is_seen_or_written_over": [NoDigest],
    "test_r5_an_edit_of_what_a_batch_has_just_written_is_seen": [NotesWhatStands, NotesWhatStandsSoon],
    "test_r5_an_import_with_a_route_has_its_digest_as_well": [DropsRoutes],
    "test_r5_every_legal_character_survives": [CannotSpell],
    "test_r6_a_second_apply_changes_nothing": [AlwaysWrites],
    "test_r6_a_change_replaces_what_stood": [WritesOnce],
    "test_r6_an_import_that_moves_leaves_nothing_under_its_old_name": [LeavesMoved],
    "test_r6_two_imports_can_swap_their_names": [WritesOnce],
    "test_r6_there_is_one_outcome_for_each_change_in_order": [Backwards],
    "test_r6_what_is_removed_leaves_nothing_behind": [LeavesMoved],
    "test_r6_a_removal_takes_out_its_own_import_alone": [RemovesAnyOfOurs],
    "test_r6_a_thousand_imports_in_one_batch": [OnlyFewer],
    "test_r7_an_entry_of_someone_else_is_left_alone_and_named": [TakesWhatIsThere, RemovesByName, NamesNobody],
    "test_r7_what_an_agent_wrote_is_not_anothers": [
        TakesWhatIsThere,
        DropsTheMark,
        RemovesByName,
        KnowsNoRegistryNames,
        KnowsNoTrustDomains,
        WaitsForAnotherAgent,
    ],
    "test_r7_an_entry_that_somebody_makes_while_a_batch_is_written_stays_theirs": [
        LooksTooEarly,
        TrustsItsMemory,
        SaysItStands,
        ChangesTheirsInARace,
        TidiesUpAfterARace,
    ],
    "test_r8_one_change_that_fails_does_not_fail_the_others": [AllOrNothing, FailsTheNext],
    "test_r8_whatever_its_size_a_change_is_applied_or_refused_alone": [LargeIsRetried, LargeFailsAll],
}
GROSS = frozenset(
    {
        Forgetful,
        NoDigest,
        AlwaysWrites,
        WritesOnce,
        LeavesMoved,
        Backwards,
        TakesWhatIsThere,
        AllOrNothing,
        FailsTheNext,
    }
)
