"""The kit is right: coordinators with one fault each are found by the check meant for it, and by no other rule's."""

import inspect
import threading
import time

import pytest

from hamlet_core.api import CoordinatorSpec, CoordinatorUnavailable
from hamlet_core.api.testing import CoordinatorContract, MemoryCoordinator
from hamlet_core.api.testing.coordinator_contract import Candidates
from hamlet_core.api.testing.memory_coordinator import Claim
from hamlet_core.api.testing.rules import named, rules_of


class TheThirdLeadsToo(MemoryCoordinator):
    def claim(self, adapter):
        return super().claim(adapter) or adapter.number == 3


class OneLeadForAllMeshes(MemoryCoordinator):
    def key(self, context):
        return context.trust_domain


class OneLeadForAllTrustDomains(MemoryCoordinator):
    def key(self, context):
        return context.mesh


class LeadsForEver(MemoryCoordinator):
    """Does not ask again once it leads, whatever becomes of its lead."""

    def lead(self, adapter, stop):
        leads = None
        while not stop.is_set():
            try:
                found = self.claim(adapter)
            except CoordinatorUnavailable:
                if not leads:
                    raise
                found = True
            if found != leads:
                leads = found or bool(leads)
                yield leads
            stop.wait(self.ttl / 10)
        self.release(adapter)


class LeadsBlindly(MemoryCoordinator):
    """Takes no answer for a yes, as long as there never was one."""

    def lead(self, adapter, stop):
        try:
            self.claim(adapter)
        except CoordinatorUnavailable:
            if adapter in self.out_of_reach:
                yield True
                stop.wait(20)
                return
        yield from super().lead(adapter, stop)


class KeepsTheLead(MemoryCoordinator):
    def release(self, adapter):
        pass


class CountsForEver(MemoryCoordinator):
    def lasts(self):
        return float("inf")


class GoesOn(MemoryCoordinator):
    over = False

    def lead(self, adapter, stop):
        yield from super().lead(adapter, stop)
        while not self.over:
            threading.Event().wait(0.01)


class LeavesThreads(MemoryCoordinator):
    over = False

    def lead(self, adapter, stop):
        threading.Thread(target=self.linger, daemon=True).start()
        yield from super().lead(adapter, stop)

    def linger(self):
        while not self.over:
            threading.Event().wait(0.01)


class TakesWhatOthersHave(MemoryCoordinator):
    def claim(self, adapter):
        with self.lock:
            if self.claims.get(adapter.key) == Claim(holder=None):
                del self.claims[adapter.key]
            return super().claim(adapter)


class RemovesWhatOthersHave(MemoryCoordinator):
    def release(self, adapter):
        with self.lock:
            if self.claims.get(adapter.key) == Claim(holder=None):
                del self.claims[adapter.key]
        super().release(adapter)


class NamesNothing(MemoryCoordinator):
    def claim(self, adapter):
        if self.claims.get(adapter.key) == Claim(holder=None):
            raise CoordinatorUnavailable("something is in the way")
        return super().claim(adapter)


class WaitsInSilence(MemoryCoordinator):
    """Takes what others have for another leader."""

    def claim(self, adapter):
        if self.claims.get(adapter.key) == Claim(holder=None):
            return False
        return super().claim(adapter)


FAULTS = {
    "test_c1_of_several_agents_one_leads_and_after_it_another": [TheThirdLeadsToo],
    "test_c1_the_agents_of_another_mesh_lead_for_themselves": [OneLeadForAllMeshes, OneLeadForAllTrustDomains],
    "test_c2_a_leader_that_cannot_renew_stops_before_another_leads": [LeadsForEver],
    "test_c2_who_cannot_reach_the_backend_does_not_lead": [LeadsBlindly],
    "test_c3_a_leader_that_is_stopped_is_followed_at_once": [KeepsTheLead],
    "test_c3_a_leader_that_is_killed_is_followed": [CountsForEver],
    "test_c4_it_ends_when_told_to": [GoesOn],
    "test_c4_it_leaves_nothing_behind": [LeavesThreads],
    "test_c5_what_others_have_is_named_and_left_alone": [
        TakesWhatOthersHave,
        RemovesWhatOthersHave,
        NamesNothing,
        WaitsInSilence,
    ],
}
CASES = [(test, fault) for test, faults in FAULTS.items() for fault in faults]
EVERY = list(dict.fromkeys(fault for _, fault in CASES))


def run(test, coordinator, directory, ttl):
    """Call one check of the suite as pytest would, once for each of its cases; it waits for two times-to-live."""
    method = getattr(CoordinatorContract, test)
    threads = threading.active_count()
    wanted = list(inspect.signature(method).parameters)[1:]
    marks = [mark for mark in getattr(method, "pytestmark", ()) if mark.name == "parametrize"]
    for case in marks[0].args[1] if marks else (None,):
        backend, suite = coordinator(ttl), CoordinatorContract()
        candidates = Candidates(backend, directory, suite.names)
        suite.deadline, suite.stop_deadline = 2 * ttl, ttl
        arguments = {"backend": backend, "candidates": candidates, **({marks[0].args[0]: case} if marks else {})}
        try:
            method(suite, **{name: arguments[name] for name in wanted})
        finally:
            backend.over = True
            candidates.end_all()
            until = time.monotonic() + 5
            while threading.active_count() > threads and time.monotonic() < until:
                time.sleep(0.01)  # what ends during the next check would hide what that one leaves behind


def broken_rules(coordinator, directory, ttl):
    """The rules whose checks find something."""
    rules = set()
    for test in FAULTS:
        try:
            run(test, coordinator, directory, ttl)
        except AssertionError:
            rules.add(named(test)[0])
    return rules


def rules_meant_for(fault):
    return {named(test)[0] for test, faults in FAULTS.items() if fault in faults}


def test_every_check_has_a_fault_to_find():
    assert set(FAULTS) == {name for name in dir(CoordinatorContract) if name.startswith("test_")}


def test_every_rule_of_the_contract_has_a_check_and_each_check_names_a_rule():
    assert {named(test)[0] for test in FAULTS} == set(rules_of(CoordinatorSpec))
    assert list(rules_of(CoordinatorSpec)) == [f"C{number}" for number in range(1, 6)]


@pytest.mark.parametrize(("test", "fault"), CASES, ids=[f"{fault.__name__}-{test[5:7]}" for test, fault in CASES])
def test_a_faulty_coordinator_is_found(test, fault, tmp_path):
    with pytest.raises(AssertionError):
        run(test, fault, tmp_path, ttl=0.5)


@pytest.mark.parametrize("fault", EVERY)
def test_a_fault_is_found_by_the_rule_it_breaks_and_by_no_other(fault, tmp_path):
    found = broken_rules(fault, tmp_path, ttl=0.5)
    if found != rules_meant_for(fault):  # a busy machine takes longer than that for what is right
        found = broken_rules(fault, tmp_path, ttl=4)
    assert found == rules_meant_for(fault)
    assert len(found) == 1


def test_every_rule_has_a_fault_that_no_other_rule_finds():
    assert set().union(*map(rules_meant_for, EVERY)) == set(rules_of(CoordinatorSpec))


@pytest.mark.parametrize("test", FAULTS)
def test_the_same_call_passes_without_a_fault(test, tmp_path):
    run(test, MemoryCoordinator, tmp_path, ttl=5)
