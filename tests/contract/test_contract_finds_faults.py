"""The kit is right: adapters with one fault each are found by the check meant for it, and by no other rule's."""

import contextlib
import inspect
import os
import threading
import time
from dataclasses import replace

import pytest

from hamlet_core.api import (
    Outcome,
    RegistryUnavailable,
    RemoveImport,
    Severity,
    Snapshot,
    StandingImport,
    Status,
    Stop,
    Upsert,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing import MemoryRegistry, RegistryContract, local_service
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.memory import MemoryAdapter
from hamlet_core.api.testing.rules import named, rules_of


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


class ImportsAsLocal(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                ours = tuple(local_service(name) for name in self.backend.by_name)
                batch = Snapshot(batch.services + ours)
            yield batch


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


class OutageFailsCheck(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        self.backend.reach()
        return super().registry_check()


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


class DeniedFailsCheck(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        if self.backend.denied:
            raise RegistryUnavailable("403")
        return super().registry_check()


class AsksForNoRights(MemoryAdapter):
    """Its check is content with an answer, whatever that says."""

    @hookimpl
    def registry_check(self):
        return [
            replace(each, severity=Severity.OK) if self.backend.denied else each for each in super().registry_check()
        ]


class NeverStops(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            yield batch
            if stop.wait(0.01):
                stop._event.clear()


class StopsOnlyLater(MemoryAdapter):
    """Hears of a stop only while it waits."""

    @hookimpl
    def registry_watch(self, stop):
        return super().registry_watch(Stop() if stop.is_set() else stop)


class LeavesThreads(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        threading.Thread(target=backend.over.wait, daemon=True).start()


class LeavesSockets(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        backend.left += os.pipe()


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
    """Takes out what stands under the name, whoever wrote it."""

    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        names = [change.local_name for change in changes if isinstance(change, RemoveImport)]
        for name in names:
            if not any(isinstance(change, WriteImport) and change.service.local_name == name for change in changes):
                self.backend.by_name.pop(name, None)
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


class MarksInMemory(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.backend.lost.clear()


class MarkStays(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return lost_since is None or super().registry_mark_peer(peer, lost_since)


class WriteClearsMark(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        self.backend.lost.clear()
        return super().registry_apply(changes)


class AnswersNone(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        super().registry_mark_peer(peer, lost_since)


class CannotSpell(MemoryAdapter):
    def _write(self, service, standing):
        plain = service.service.description.encode("ascii", "replace").decode()
        super()._write(replace(service, service=replace(service.service, description=plain)), standing)


FAULTS = {
    "test_r1_first_comes_a_snapshot_of_all_local_services": [NoSnapshot, OneLess],
    "test_r1_an_empty_registry_yields_an_empty_snapshot": [NoSnapshot],
    "test_r1_services_that_come_change_and_go_are_seen": [NoChanges],
    "test_r1_each_watch_begins_with_a_snapshot": [NoSnapshot],
    "test_r1_what_changes_while_a_watch_begins_is_not_lost": [LateToFollow],
    "test_r2_imports_are_never_reported_as_local": [ImportsAsLocal],
    "test_r2_a_restarted_agent_knows_its_imports_from_local_services": [RemembersImports],
    "test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so": [OutageIsEmpty],
    "test_r3_an_outage_ends_a_watch_and_withdraws_nothing": [OutageIsEmpty],
    "test_r3_after_an_outage_everything_is_there_again": [OutageListsNothing],
    "test_r3_nothing_is_said_to_be_written_in_an_outage": [OutageIsDone],
    "test_r3_a_check_reports_an_outage_and_does_not_raise": [OutageFailsCheck],
    "test_r3_a_watch_without_rights_yields_nothing_and_says_so": [HiddenIsEmpty],
    "test_r3_rights_that_are_taken_away_withdraw_nothing": [HiddenIsGone, HiddenIsMissed],
    "test_r3_without_rights_nothing_is_listed_and_nothing_said_to_be_written": [
        HiddenIsNotListed,
        HiddenIsWritten,
        DeniedForGood,
    ],
    "test_r3_a_check_reports_missing_rights_and_does_not_raise": [DeniedFailsCheck, AsksForNoRights],
    "test_r4_a_watch_ends_when_told_to_and_leaves_no_thread": [NeverStops],
    "test_r4_a_watch_that_is_told_to_stop_before_it_begins_ends": [StopsOnlyLater],
    "test_r4_an_agent_that_is_closed_leaves_no_thread_and_no_socket": [LeavesThreads, LeavesSockets],
    "test_r5_a_restarted_agent_finds_every_import_with_its_digest": [Forgetful, NoDigest],
    "test_r5_a_restarted_agent_goes_on_with_what_it_wrote": [WritesAnewAfterARestart],
    "test_r5_an_edited_entry_has_no_digest_and_is_written_again": [BlindToEdits],
    "test_r5_an_edit_while_a_batch_is_written_is_seen": [NoDigest],
    "test_r5_every_legal_character_survives": [CannotSpell],
    "test_r6_a_second_apply_changes_nothing": [AlwaysWrites],
    "test_r6_a_change_replaces_what_stood": [WritesOnce],
    "test_r6_an_import_that_moves_leaves_nothing_under_its_old_name": [LeavesMoved],
    "test_r6_two_imports_can_swap_their_names": [WritesOnce],
    "test_r6_there_is_one_outcome_for_each_change_in_order": [Backwards],
    "test_r6_what_is_removed_leaves_nothing_behind": [LeavesMoved],
    "test_r6_a_thousand_imports_in_one_batch": [OnlyFewer],
    "test_r7_an_entry_of_someone_else_is_left_alone_and_named": [TakesWhatIsThere, RemovesByName, NamesNobody],
    "test_r7_what_an_agent_wrote_is_not_anothers": [TakesWhatIsThere, DropsTheMark, RemovesByName],
    "test_r7_an_entry_that_somebody_makes_while_a_batch_is_written_stays_theirs": [
        LooksTooEarly,
        TrustsItsMemory,
        SaysItStands,
    ],
    "test_r8_one_change_that_fails_does_not_fail_the_others": [AllOrNothing, FailsTheNext],
    "test_r8_whatever_its_size_a_change_is_applied_or_refused_alone": [LargeIsRetried, LargeFailsAll],
    "test_r9_a_lost_peer_is_known_after_a_restart_and_its_imports_stay": [MarksInMemory],
    "test_r9_a_peer_that_is_back_has_no_mark": [MarkStays],
    "test_r9_a_write_leaves_the_mark_of_a_lost_peer": [WriteClearsMark],
    "test_r9_a_peer_without_entries_is_marked_or_not_but_never_fails": [AnswersNone],
}
CASES = [(test, fault) for test, faults in FAULTS.items() for fault in faults]
GROSS = {
    OneLess, NoChanges, LateToFollow, ImportsAsLocal, NeverStops, Forgetful, NoDigest, AlwaysWrites, WritesOnce,
    LeavesMoved, Backwards, TakesWhatIsThere, AllOrNothing, FailsTheNext,
}  # fmt: skip
"""Without these no check of another rule can be passed either: who loses services loses them everywhere."""
PRECISE = [fault for fault in dict.fromkeys(fault for _, fault in CASES) if fault not in GROSS]


class Faulty(MemoryRegistry):
    """A memory with a faulty adapter; `left` and `over` are what that leaves behind."""

    def __init__(self, adapter):
        super().__init__()
        self._adapter = adapter
        self.left = []
        self.over = threading.Event()
        self.rewrites = 0

    def entries(self):
        return {**super().entries(), **({"rewritten": self.rewrites} if self.rewrites else {})}

    def open(self, context):
        return self._adapter(self, context)


def run(test, adapter, directory, seconds):
    """Call one test of the suite as pytest would, once for each of its cases."""
    method = getattr(RegistryContract, test)
    wanted = list(inspect.signature(method).parameters)[1:]
    for another in ("trust_domain", "registry") if "another" in wanted else (None,):
        backend = Faulty(adapter)
        agents = Agents(backend, directory)
        suite = RegistryContract()
        suite.deadline = suite.stop_deadline = seconds
        arguments = {"backend": backend, "agents": agents, "another": another}
        try:
            method(suite, **{name: arguments[name] for name in wanted})
        finally:
            backend.over.set()
            for descriptor in backend.left:
                os.close(descriptor)
            with contextlib.suppress(AssertionError):
                for watching in agents._watching:
                    watching.end(seconds)


def broken_rules(adapter, directory, seconds):
    """The rules whose checks find something."""
    rules = set()
    for test in FAULTS:
        try:
            run(test, adapter, directory, seconds)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a check ends with, it did not pass
            rules.add(named(test)[0])
    return rules


def test_every_check_has_a_fault_to_find():
    assert set(FAULTS) == {name for name in dir(RegistryContract) if name.startswith("test_")}


def test_every_rule_of_the_contract_has_a_check_and_each_check_names_a_rule():
    assert {named(test)[0] for test in FAULTS} == set(rules_of())


@pytest.mark.parametrize(("test", "fault"), CASES, ids=[f"{fault.__name__}-{test[5:7]}" for test, fault in CASES])
def test_a_faulty_adapter_is_found(test, fault, tmp_path):
    with pytest.raises((AssertionError, RegistryUnavailable, pytest.fail.Exception)):
        run(test, fault, tmp_path, seconds=0.3)


def rules_meant_for(fault):
    return {named(test)[0] for test, faults in FAULTS.items() if fault in faults}


@pytest.mark.parametrize("fault", PRECISE)
def test_a_fault_is_found_by_the_rule_it_breaks_and_by_no_other(fault, tmp_path):
    found = broken_rules(fault, tmp_path, seconds=0.3)
    if found != rules_meant_for(fault):  # a busy machine takes longer than that for what is right
        found = broken_rules(fault, tmp_path, seconds=3)
    assert found == rules_meant_for(fault)
    assert len(found) == 1


def test_every_rule_has_a_fault_that_no_other_rule_finds():
    assert set().union(*map(rules_meant_for, PRECISE)) == set(rules_of())


@pytest.mark.parametrize("test", FAULTS)
def test_the_same_call_passes_without_a_fault(test, tmp_path):
    run(test, MemoryAdapter, tmp_path, seconds=20)
