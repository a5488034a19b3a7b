"""Gateways with one fault each, by the check that must find it; and a sound one that needs no address."""

import itertools
from dataclasses import replace

from hamlet_core.api import GatewayUnavailable, Ingress, Refused, Route
from hamlet_core.api.testing import (
    EgressContract,
    IngressContract,
    MemoryGateway,
    MemoryGatewayBackend,
)


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
        if not stop.is_set():
            yield from super().ingresses(stop)
        while stop.is_set() and not self.over:
            stop._event.wait(0.01)


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
    def admits(self, sni, bundle):
        route = self.published.get(sni)
        known = any(each.bundle == bundle for each in self.trust.peers)
        return route.endpoints[0] if route is not None and known else None


class AsksForNoCertificate(MemoryGateway):
    def admits(self, sni, bundle):
        route = self.published.get(sni)
        return route.endpoints[0] if route is not None and bundle is None else super().admits(sni, bundle)


class AnyServerName(MemoryGateway):
    def admits(self, sni, bundle):
        suffix = next((each for each in self.published if sni.endswith(f".{each}")), sni)
        return super().admits(suffix, bundle)


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


class AllImportsOrNone(MemoryGateway):
    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        if any(isinstance(each, Refused) for each in answers.values()):
            return {key: Refused("one of them is refused") for key in answers}
        return answers


class SaysDone(MemoryGateway):
    """Does nothing in an outage, and does not say so."""

    def publish(self, routes):
        return {} if self.down else super().publish(routes)

    def called(self, hook):
        self.calls.append(hook)


class ImportsSayDone(MemoryGateway):
    def lead(self, routes, keep):
        return {} if self.down else super().lead(routes, keep)

    def called(self, hook):
        if hook != "gateway_import":
            super().called(hook)


class LosesAll(MemoryGateway):
    """Forgets what stood when it takes nothing new."""

    def called(self, hook):
        if self.down and hook == "gateway_publish":
            self.published = {}
        super().called(hook)


class LosesImports(MemoryGateway):
    def called(self, hook):
        if self.down and hook == "gateway_import":
            self.imported = {}
        super().called(hook)


class AnotherAddressEachTime(MemoryGateway):
    def __init__(self, **ways):
        super().__init__(**ways)
        self.fresh = itertools.count(30_000)

    def lead(self, routes, keep):
        wanted = {each.key for each in routes}
        self.ports = {place: port for place, port in self.ports.items() if place[0] not in wanted}
        return super().lead(routes, keep)

    def port_of(self, place):
        return self.ports.setdefault(place, next(self.fresh))


class ForgetsAddresses(MemoryGateway):
    """Begins anew with each life, in the order in which it is asked."""

    def opened(self):
        self.ports = {}


class ForgetsAddressesByName(ForgetsAddresses):
    """Begins anew with each life, in the order of the names."""

    def lead(self, routes, keep):
        return super().lead(sorted(routes, key=lambda route: route.key), keep)


class LeadsWhereItFirstWas(MemoryGateway):
    def lead(self, routes, keep):
        before = self.imported
        answers = super().lead(routes, keep)
        self.imported = {key: before.get(key, route) for key, route in self.imported.items()}
        return answers


class AnotherAddressForEachPlace(MemoryGateway):
    """Gives its addresses to the owners' endpoints, not to the services."""

    def lead(self, routes, keep):
        moved = {each.key for each in routes if self.imported.get(each.key, each) != each}
        self.ports = {
            (key, f"{way}, before" if key in moved else way): port for (key, way), port in self.ports.items()
        }
        return super().lead(routes, keep)


class KeepsNothing(MemoryGateway):
    def lead(self, routes, keep):
        return super().lead(routes, frozenset())


class KeepsOnlyWhatIsNamed(MemoryGateway):
    def lead(self, routes, keep):
        return super().lead(routes, keep or frozenset())


class LeadsForEver(MemoryGateway):
    def lead(self, routes, keep):
        return super().lead(routes, None)


class BelievesAnyAuthority(MemoryGateway):
    def believes(self, route, bundle, sans):
        return not set(sans).isdisjoint(route.service.sans)


class BelievesAnyPeer(MemoryGateway):
    def believes(self, route, bundle, sans):
        known = any(each.bundle == bundle for each in self.trust.peers)
        return known and not set(sans).isdisjoint(route.service.sans)


class BelievesAnySan(MemoryGateway):
    def believes(self, route, bundle, sans):
        return super().believes(route, bundle, route.service.sans or ("any",))


class WantsEverySan(MemoryGateway):
    def believes(self, route, bundle, sans):
        return super().believes(route, bundle, sans) and set(route.service.sans) <= set(sans)


class TakesWhatHasNoSans(MemoryGateway):
    def route(self, route):
        answer = super().route(replace(route, service=replace(route.service, sans=("any",))))
        return answer if isinstance(answer, Route) else Refused("no")


class GivesNoReason(MemoryGateway):
    def route(self, route):
        answer = super().route(route)
        return Refused("") if isinstance(answer, Refused) else answer


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


class BySidecars(MemoryGateway):
    """Has the sidecars of callers originate TLS: its routes have the owners' own addresses."""

    def route(self, route):
        answer = super().route(route)
        if isinstance(answer, Refused):
            return answer
        ways = {each.id: route.service.endpoints_of(each) for each in route.service.instances}
        return Route(endpoints=ways, originates_tls=False)


class SidecarWorld(MemoryGatewayBackend):
    """The world around it: a caller's sidecar goes where the route says."""

    def leave(self, imported, route):
        led = self.gateway.imported.get(imported.key)
        (place, *_) = route.endpoints[imported.service.instances[0].id]
        word, bundle, sans = self._owners[place]
        return self._connect(word, bundle) if led and self.gateway.believes(led, bundle, sans) else None


class KeepsTheOldPlace(BySidecars):
    """Says for ever where the owner was first."""

    def __init__(self, **ways):
        super().__init__(**ways)
        self.first = {}

    def route(self, route):
        answer = super().route(route)
        return self.first.setdefault(route.key, answer) if isinstance(answer, Route) else answer


FAULTS = {
    "test_g1_an_ingress_has_an_endpoint_and_presents_its_sans": [NoSans, NoEndpoint, PresentsAnother],
    "test_g2_while_nobody_knows_how_the_mesh_is_reached_the_watch_says_so": [MakesOneUp],
    "test_g3_a_watch_ends_when_told_to": [NeverStops, StopsOnlyLater],
    "test_g4_a_caller_is_judged_by_the_trust_of_now": [BelievesForEver, BelievesTheFirst],
    "test_g4_an_authority_is_believed_once_its_bundle_is_handed_over": [BelievesTheFirst],
    "test_g4_standing_connections_of_a_peer_that_is_gone_are_cut": [CutsNobody],
    "test_g5_what_is_published_is_led_to_its_own_endpoint_as_soon_as_the_call_returns": [KeepsRoutes, InForceLater],
    "test_g5_a_route_that_changes_leads_elsewhere": [KeepsTheFirstEndpoint],
    "test_g5_nobody_else_gets_in": [ForAnyPeer, AsksForNoCertificate, AnyServerName],
    "test_g6_publishing_the_same_again_disturbs_nobody": [CutsOnEachChange],
    "test_g6_one_route_that_is_refused_keeps_no_other_out": [AllOrNothing],
    "test_g6_a_call_that_comes_to_nothing_says_so_and_leaves_what_stood": [SaysDone, LosesAll],
    "test_g6_an_import_that_is_refused_keeps_no_other_out": [AllImportsOrNone],
    "test_g6_an_import_that_comes_to_nothing_says_so_and_leaves_what_stood": [ImportsSayDone, LosesImports],
    "test_g7_a_route_keeps_its_addresses_as_long_as_it_is_wanted": [
        AnotherAddressEachTime,
        ForgetsAddresses,
        ForgetsAddressesByName,
    ],
    "test_g7_a_service_whose_owner_moves_is_called_at_the_same_address": [
        LeadsWhereItFirstWas,
        AnotherAddressForEachPlace,
        AnotherAddressEachTime,
        KeepsTheOldPlace,
    ],
    "test_g7_what_is_kept_stays_as_it_is": [KeepsNothing, KeepsOnlyWhatIsNamed],
    "test_g7_what_is_neither_wanted_nor_kept_leads_nowhere": [LeadsForEver],
    "test_g8_only_the_owners_own_authority_vouches_for_it": [BelievesAnyAuthority, BelievesAnyPeer],
    "test_g8_an_ingress_presents_one_of_the_services_sans": [BelievesAnySan, WantsEverySan],
    "test_g8_a_service_without_sans_is_refused": [TakesWhatHasNoSans, GivesNoReason],
    "test_g9_a_gateway_without_an_ingress_says_so_and_takes_no_route_in": [EntersNowhere, HasAnIngressAfterAll],
    "test_g9_a_gateway_without_a_way_out_takes_no_import": [LeavesNowhere],
}
ONE_WAY = {EntersNowhere: EgressContract, HasAnIngressAfterAll: EgressContract, LeavesNowhere: IngressContract}
"""Faults of a gateway that leads calls one way only."""
GROSS = frozenset({InForceLater})
"""Without a route in force no other check of a way in can be passed either."""
