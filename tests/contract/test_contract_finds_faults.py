"""Each test of the contract can fail: adapters with one fault each are found by the test meant for it."""

from dataclasses import replace

import pytest

from hamlet_core.api import Outcome, RegistryUnavailable, Snapshot, Status, Upsert, WriteImport, hookimpl
from hamlet_core.api.testing import MemoryRegistry, RegistryContract
from hamlet_core.api.testing.agents import Agents
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


class ImportsAsLocal(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if isinstance(batch, Snapshot):
                ours = tuple(replace(next(iter(batch.services)), name=name) for name in self.backend.by_name)
                batch = Snapshot(batch.services + ours)
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


class NeverStops(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            yield batch
            if stop.wait(0.01):
                stop._event.clear()


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
        self.backend.local[f"write {self.backend.writes}"] = None
        self.backend.writes += 1
        return super().registry_apply(changes)


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


class TakesWhatIsThere(MemoryAdapter):
    def _ours(self, entry):
        return True


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
    "test_r2_imports_are_never_reported_as_local": [ImportsAsLocal],
    "test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so": [OutageIsEmpty],
    "test_r3_an_outage_ends_a_watch_and_withdraws_nothing": [OutageIsEmpty],
    "test_r3_after_an_outage_everything_is_there_again": [OutageListsNothing],
    "test_r3_nothing_is_said_to_be_written_in_an_outage": [OutageIsDone],
    "test_r3_a_check_reports_an_outage_and_does_not_raise": [OutageFailsCheck],
    "test_r4_a_watch_ends_when_told_to_and_leaves_no_thread": [NeverStops],
    "test_r5_a_restarted_agent_finds_every_import_with_its_digest": [Forgetful, NoDigest],
    "test_r5_an_edited_entry_has_no_digest_and_is_written_again": [BlindToEdits],
    "test_r5_every_legal_character_survives": [CannotSpell],
    "test_r6_a_second_apply_changes_nothing": [AlwaysWrites],
    "test_r6_a_change_replaces_what_stood": [WritesOnce],
    "test_r6_an_import_that_moves_leaves_nothing_under_its_old_name": [LeavesMoved],
    "test_r6_two_imports_can_swap_their_names": [WritesOnce],
    "test_r6_there_is_one_outcome_for_each_change_in_order": [Backwards],
    "test_r6_what_is_removed_leaves_nothing_behind": [LeavesMoved],
    "test_r6_a_thousand_imports_in_one_batch": [OnlyFewer],
    "test_r7_an_entry_of_someone_else_is_left_alone_and_named": [TakesWhatIsThere],
    "test_r7_what_an_agent_wrote_is_not_anothers": [TakesWhatIsThere, DropsTheMark],
    "test_r8_one_change_that_fails_does_not_fail_the_others": [AllOrNothing],
    "test_r9_a_lost_peer_is_known_after_a_restart_and_its_imports_stay": [MarksInMemory],
    "test_r9_a_peer_that_is_back_has_no_mark": [MarkStays],
    "test_r9_a_write_leaves_the_mark_of_a_lost_peer": [WriteClearsMark],
    "test_r9_a_peer_without_entries_is_marked_or_not_but_never_fails": [AnswersNone],
}
CASES = [(test, fault) for test, faults in FAULTS.items() for fault in faults]


class Faulty(MemoryRegistry):
    def __init__(self, adapter):
        super().__init__()
        self._adapter = adapter

    def open(self, context):
        return self._adapter(self, context)


def run(test, backend, directory, seconds):
    """Call one test of the suite as pytest would."""
    suite = RegistryContract()
    suite.deadline = suite.stop_deadline = seconds
    agents = Agents(backend, directory)
    arguments = {"backend": backend, "agents": agents, "another": {"registry": "second"}}
    method = getattr(suite, test)
    wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    method(**{name: arguments[name] for name in wanted})


def test_every_test_of_the_contract_has_a_fault_to_find():
    assert set(FAULTS) == {name for name in dir(RegistryContract) if name.startswith("test_")}


@pytest.mark.parametrize(("test", "fault"), CASES, ids=[f"{fault.__name__}-{test[5:7]}" for test, fault in CASES])
def test_a_faulty_adapter_is_found(test, fault, tmp_path):
    with pytest.raises((AssertionError, RegistryUnavailable, pytest.fail.Exception)):
        run(test, Faulty(fault), tmp_path, seconds=0.3)


@pytest.mark.parametrize("test", FAULTS)
def test_the_same_call_passes_without_a_fault(test, tmp_path):
    run(test, Faulty(MemoryAdapter), tmp_path, seconds=20)
