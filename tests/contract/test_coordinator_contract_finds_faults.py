"""The kit is right: coordinators with one fault each are found by the check meant for it, and by no other rule's."""

import threading
from contextlib import contextmanager, suppress

from hamlet_core.api import CoordinatorSpec, CoordinatorUnavailable, Finding, Severity
from hamlet_core.api.testing import CoordinatorContract, MemoryCoordinator
from hamlet_core.api.testing.candidates import Candidates
from hamlet_core.api.testing.memory_coordinator import Claim
from tests.contract.finding import FindsFaults


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


class LeadsUntilAnotherSaysSo(MemoryCoordinator):
    """Cut off, it stops as soon as another one has said that it leads: both do for less than a millisecond."""

    def __init__(self, ttl):
        super().__init__(ttl)
        self.another = threading.Event()

    def lead(self, adapter, stop):
        for leads in super().lead(adapter, stop):
            if adapter in self.out_of_reach:
                while not self.another.wait(0.01) and not stop.is_set():
                    pass
            yield leads
            if leads and self.out_of_reach:
                self.another.set()


class DoesNotProlong(MemoryCoordinator):
    """Takes its own claim of once for a renewal."""

    def claim(self, adapter):
        with self.lock:
            held = self.claims.get(adapter.key)
            if held is not None and held.holder is adapter:
                self.reach(adapter)
                return True
            return super().claim(adapter)


class LedOnceLeadsEver(MemoryCoordinator):
    """Takes the lead that it once had for its own, whoever has it by now."""

    def __init__(self, ttl):
        super().__init__(ttl)
        self.led = set()

    def claim(self, adapter):
        found = super().claim(adapter) or adapter in self.led
        if found:
            self.led.add(adapter)
        return found


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


class LeadsForAMoment(MemoryCoordinator):
    """Says that it leads before it asks."""

    def lead(self, adapter, stop):
        if adapter in self.out_of_reach:
            yield True
            yield False
        yield from super().lead(adapter, stop)


class EndsWithoutAWord(MemoryCoordinator):
    def lead(self, adapter, stop):
        try:
            yield from super().lead(adapter, stop)
        except CoordinatorUnavailable:
            if adapter not in self.out_of_reach:
                raise


class FailsOtherwise(MemoryCoordinator):
    """Does not say in the word of the contract that it has lost the lead."""

    def lead(self, adapter, stop):
        led = False
        try:
            for leads in super().lead(adapter, stop):
                led = led or leads
                yield leads
        except CoordinatorUnavailable as error:
            if led:
                raise KeyError("lost") from error
            raise


class FailsWhenStopped(MemoryCoordinator):
    def lead(self, adapter, stop):
        yield from super().lead(adapter, stop)
        raise CoordinatorUnavailable("stopped")


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


class GoesOnAsTheLeader(GoesOn):
    said = True

    def lead(self, adapter, stop):
        leads = None
        for leads in MemoryCoordinator.lead(self, adapter, stop):
            yield leads
        while leads is self.said and adapter not in self.out_of_reach and not self.over:
            threading.Event().wait(0.01)


class GoesOnAsStandby(GoesOnAsTheLeader):
    said = False


class GoesOnUnheard(GoesOnAsTheLeader):
    """Goes on where it was stopped before it has said anything."""

    said = None


class GoesOnWhenCutOff(GoesOn):
    """Gives its lead up for as long as it takes to be answered."""

    def lead(self, adapter, stop):
        yield from MemoryCoordinator.lead(self, adapter, stop)
        while adapter in self.out_of_reach and not self.over:
            threading.Event().wait(0.01)


class LeavesThreads(MemoryCoordinator):
    over = False

    def lead(self, adapter, stop):
        threading.Thread(target=self.linger, daemon=True).start()
        yield from super().lead(adapter, stop)

    def linger(self):
        while not self.over:
            threading.Event().wait(0.01)


class LeavesThreadsWhenCutOff(LeavesThreads):
    def lead(self, adapter, stop):
        try:
            yield from MemoryCoordinator.lead(self, adapter, stop)
        except CoordinatorUnavailable:
            threading.Thread(target=self.linger, daemon=True).start()
            raise


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


class CannotBeChecked(MemoryCoordinator):
    def findings(self, adapter):
        self.reach(adapter)
        return super().findings(adapter)


class TriesItOut(MemoryCoordinator):
    """Takes the lead to find out whether it could."""

    def findings(self, adapter):
        with suppress(CoordinatorUnavailable):
            self.claim(adapter)
        return super().findings(adapter)


class TidiesUp(MemoryCoordinator):
    """Takes out what it does not know."""

    def findings(self, adapter):
        with self.lock:
            self.claims.clear()
        return super().findings(adapter)


class IsAlwaysWell(MemoryCoordinator):
    def findings(self, adapter):
        return ()


class IsNeverWell(MemoryCoordinator):
    def findings(self, adapter):
        return [Finding(subject="memory", severity=Severity.ERROR, message="something")]


FAULTS = {
    "test_c1_of_several_agents_one_leads_and_after_it_another": [TheThirdLeadsToo],
    "test_c1_a_leader_that_renews_leads_on_and_nobody_else": [DoesNotProlong],
    "test_c1_who_has_lost_the_lead_comes_back_as_a_standby": [LedOnceLeadsEver],
    "test_c1_the_agents_of_another_mesh_lead_for_themselves": [OneLeadForAllMeshes, OneLeadForAllTrustDomains],
    "test_c2_a_leader_that_cannot_renew_stops_before_another_leads": [
        LeadsForEver,
        LeadsUntilAnotherSaysSo,
        FailsOtherwise,
    ],
    "test_c2_who_cannot_reach_the_backend_does_not_lead": [LeadsBlindly, LeadsForAMoment, EndsWithoutAWord],
    "test_c3_a_leader_that_is_stopped_is_followed_at_once": [KeepsTheLead],
    "test_c3_a_leader_that_is_killed_is_followed": [CountsForEver],
    "test_c4_it_ends_when_told_to": [
        GoesOn,
        GoesOnAsTheLeader,
        GoesOnAsStandby,
        GoesOnUnheard,
        GoesOnWhenCutOff,
        FailsWhenStopped,
    ],
    "test_c4_it_leaves_nothing_behind": [LeavesThreads],
    "test_c4_a_lead_that_is_lost_leaves_nothing_behind": [LeavesThreads, LeavesThreadsWhenCutOff],
    "test_c5_what_others_have_is_named_and_left_alone": [
        TakesWhatOthersHave,
        RemovesWhatOthersHave,
        NamesNothing,
        WaitsInSilence,
    ],
    "test_c6_a_backend_that_cannot_be_reached_is_a_finding": [
        CannotBeChecked,
        IsAlwaysWell,
        IsNeverWell,
    ],
    "test_c6_a_check_takes_no_lead_and_changes_nothing": [TriesItOut, TidiesUp],
}


class TestCoordinatorFaults(FindsFaults):
    """The seconds are those of the time-to-live; a check waits for two of them."""

    spec = CoordinatorSpec
    contracts = (CoordinatorContract,)
    faults = FAULTS
    sound = MemoryCoordinator
    ends = (*FindsFaults.ends, CoordinatorUnavailable)
    hurried, patient, unhurried = 0.5, 4.0, 12.0

    @contextmanager
    def stage(self, contract, made, folder, seconds):
        backend, suite = made(seconds), contract()
        candidates = Candidates(backend, folder, suite.names)
        suite.deadline, suite.stop_deadline, candidates.grace = 2 * seconds, seconds, seconds
        try:
            yield suite, {"backend": backend, "candidates": candidates}
        finally:
            backend.over = True
            candidates.end_all()
