"""Gateways with one fault each, by the check that must find it, but for those in how they lead calls out."""

import threading
from dataclasses import replace

from hamlet_core.api import Finding, GatewayUnavailable, Ingress, Refused, Severity
from hamlet_core.api.testing import EgressContract, IngressContract, MemoryGateway


class NoSans(MemoryGateway):
    def __init__(self, **ways):
        super().__init__(**ways)
        self.ingress = replace(self.ingress, sans=())


class NoEndpoint(MemoryGateway):
    def __init__(self, **ways):
        super().__init__(**ways)
        self.ingress = replace(self.ingress, endpoints=())


class PresentsAnother(MemoryGateway):
    @property
    def presents(self):
        return ("spiffe://west.example/another",)


class MakesOneUp(MemoryGateway):
    """Says how it is reached although it does not know."""

    def ingresses(self, stop):
        if self.ingress is None:
            yield Ingress(endpoints=(), sans=())
            stop.wait(20)
        else:
            yield from super().ingresses(stop)


class NeverStops(MemoryGateway):
    over = False

    def ingresses(self, stop):
        yield self.ingress if self.ingress is not None else self._unknown()
        while not self.over:
            stop.wait(0.01)
            stop._event.clear()

    def _unknown(self):
        raise GatewayUnavailable("no address is assigned yet")


class StopsOnlyLater(MemoryGateway):
    """Hears of a stop only while it waits."""

    over = False

    def ingresses(self, stop):
        while stop.is_set() and not self.over:
            threading.Event().wait(0.01)
        yield from super().ingresses(stop)


class StopsOnlyBefore(MemoryGateway):
    """Looks for a stop only when it begins."""

    over = False

    def ingresses(self, stop):
        early = stop.is_set()
        yield from super().ingresses(stop)
        while not early and not self.over:
            threading.Event().wait(0.01)


class FailsWhenStopped(MemoryGateway):
    def ingresses(self, stop):
        yield from super().ingresses(stop)
        raise RuntimeError("stopped")


class LeavesThreads(MemoryGateway):
    """Leaves one for each adapter that was opened."""

    over = False

    def opened(self):
        threading.Thread(target=self.linger, daemon=True).start()

    def linger(self):
        while not self.over:
            threading.Event().wait(0.01)


class BelievesForEver(MemoryGateway):
    def believe(self, trust):
        before = self.trust.peers if self.trust is not None else ()
        super().believe(replace(trust, peers=(*trust.peers, *before)))


class BelievesTheFirst(MemoryGateway):
    def believe(self, trust):
        super().believe(self.trust or trust)


class CutsNobody(MemoryGateway):
    def believe(self, trust):
        self.trust = trust


class KeepsRoutes(MemoryGateway):
    def publish(self, routes):
        before = self.published
        refusals = super().publish(routes)
        self.published = before | self.published
        return refusals


class KeepsTheFirstEndpoint(MemoryGateway):
    def publish(self, routes):
        before = self.published
        refusals = super().publish(routes)
        self.published = {sni: before.get(sni, route) for sni, route in self.published.items()}
        return refusals


class ForAnyPeer(MemoryGateway):
    def admits(self, sni, bundle, trust_domain):
        route = self.published.get(sni)
        known = any(each.bundle == bundle for each in self.trust.peers)
        return route.endpoints[0] if route is not None and known else None


class AsksForNoCertificate(MemoryGateway):
    def admits(self, sni, bundle, trust_domain):
        route = self.published.get(sni)
        return (
            route.endpoints[0] if route is not None and bundle is None else super().admits(sni, bundle, trust_domain)
        )


class PoolsTheBundles(MemoryGateway):
    """Believes any peer's authority, and takes the name in the certificate for granted."""

    def admits(self, sni, bundle, trust_domain):
        vouched = any(each.bundle == bundle for each in self.trust.peers)
        own = (each.bundle for each in self.trust.peers if vouched and each.trust_domain == trust_domain)
        return super().admits(sni, next(own, bundle), trust_domain)


class TakesAnyTrustDomain(MemoryGateway):
    """Takes whoever a peer's authority vouches for to be of that peer."""

    def admits(self, sni, bundle, trust_domain):
        own = (each.trust_domain for each in self.trust.peers if each.bundle == bundle)
        return super().admits(sni, bundle, next(own, trust_domain))


class AnyServerName(MemoryGateway):
    def admits(self, sni, bundle, trust_domain):
        suffix = next((each for each in self.published if sni.endswith(f".{each}")), sni)
        return super().admits(suffix, bundle, trust_domain)


class InForceLater(MemoryGateway):
    later = ()

    def publish(self, routes):
        now, self.later = self.later, routes
        super().publish(now)
        return {}


class CutsOnEachChange(MemoryGateway):
    def publish(self, routes):
        for each in self.standing:
            each.cut = True
        return super().publish(routes)


class AllOrNothing(MemoryGateway):
    def publish(self, routes):
        refused = any(each.sni in self.refuse for each in routes)
        return super().publish([] if refused else routes) or {
            each.sni: Refused("no") for each in routes if refused and each.sni in self.refuse
        }


class SaysDone(MemoryGateway):
    """Does nothing in an outage, and does not say so."""

    def publish(self, routes):
        return {} if self.down else super().publish(routes)

    def called(self, hook):
        self.calls.append(hook)


class LosesAll(MemoryGateway):
    """Forgets what stood when it takes nothing new."""

    def called(self, hook):
        if self.down and hook == "gateway_publish":
            self.published = {}
        super().called(hook)


class EntersNowhere(MemoryGateway):
    """Takes routes in, and has no ingress."""

    def publish(self, routes):
        return {}


class HasAnIngressAfterAll(MemoryGateway):
    """Says how it is reached, and lets nobody in."""

    def ingresses(self, stop):
        self.leads_in = True
        yield from super().ingresses(stop)


class LeavesNowhere(MemoryGateway):
    """Answers with a route that leads nowhere."""

    def route(self, route):
        self.leads_out = True
        return super().route(route)


class CannotBeChecked(MemoryGateway):
    def findings(self):
        self.reach()
        return super().findings()


class IsAlwaysWell(MemoryGateway):
    def findings(self):
        return ()


class IsNeverWell(MemoryGateway):
    def findings(self):
        return [Finding(subject="memory", severity=Severity.ERROR, message="something")]


FAULTS = {
    "test_g1_an_ingress_has_an_endpoint_and_presents_its_sans": [NoSans, NoEndpoint, PresentsAnother],
    "test_g2_while_nobody_knows_how_the_mesh_is_reached_the_watch_says_so": [MakesOneUp],
    "test_g3_a_watch_ends_when_told_to": [NeverStops, StopsOnlyLater, StopsOnlyBefore, FailsWhenStopped],
    "test_g3_an_agent_that_is_closed_leaves_no_thread_and_no_socket": [LeavesThreads],
    "test_g4_a_caller_is_judged_by_the_trust_of_now": [BelievesForEver, BelievesTheFirst],
    "test_g4_an_authority_is_believed_once_its_bundle_is_handed_over": [BelievesTheFirst],
    "test_g4_standing_connections_of_a_peer_that_is_gone_are_cut": [CutsNobody],
    "test_g5_what_is_published_is_led_to_its_own_endpoint_as_soon_as_the_call_returns": [KeepsRoutes, InForceLater],
    "test_g5_a_route_that_changes_leads_elsewhere": [KeepsTheFirstEndpoint],
    "test_g5_nobody_else_gets_in": [ForAnyPeer, AsksForNoCertificate, AnyServerName],
    "test_g5_an_authority_vouches_for_workloads_of_its_own_peer_alone": [PoolsTheBundles, TakesAnyTrustDomain],
    "test_g6_publishing_the_same_again_disturbs_nobody": [CutsOnEachChange],
    "test_g6_one_route_that_is_refused_keeps_no_other_out": [AllOrNothing],
    "test_g6_a_call_that_comes_to_nothing_says_so_and_leaves_what_stood": [SaysDone, LosesAll],
    "test_g9_a_gateway_without_an_ingress_says_so_and_takes_no_route_in": [EntersNowhere, HasAnIngressAfterAll],
    "test_g9_a_gateway_without_a_way_out_takes_no_import": [LeavesNowhere],
    "test_g10_a_gateway_that_cannot_be_reached_is_a_finding": [CannotBeChecked, IsAlwaysWell, IsNeverWell],
}
ONE_WAY = {EntersNowhere: EgressContract, HasAnIngressAfterAll: EgressContract, LeavesNowhere: IngressContract}
"""Faults of a gateway that leads calls one way only."""
GROSS = frozenset({InForceLater})
"""Without a route in force no other check of a way in can be passed either."""
