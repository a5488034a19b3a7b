"""Gateways with one fault each in how they lead calls out, by the check that must find it; and a sound one without
addresses of its own."""

import itertools
from dataclasses import replace

from hamlet_core.api import Refused, Route
from hamlet_core.api.testing import MemoryGateway, MemoryGatewayBackend


class AllImportsOrNone(MemoryGateway):
    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        if any(isinstance(each, Refused) for each in answers.values()):
            return {key: Refused("one of them is refused") for key in answers}
        return answers


class ImportsSayDone(MemoryGateway):
    def lead(self, routes, keep):
        return {} if self.down else super().lead(routes, keep)

    def called(self, hook):
        if hook != "gateway_import":
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


class OneAddressForEachName(MemoryGateway):
    """Tells services of two peers from each other by nothing."""

    def port_of(self, place):
        like = [port for each, port in self.ports.items() if peerless(each) == peerless(place)]
        return like[0] if like else super().port_of(place)


class ForgetsWhoseAddress(MemoryGateway):
    """Keeps its addresses over a restart, and not for the services of which peer they are."""

    def opened(self):
        self.kept = {peerless(place): port for place, port in self.ports.items()}

    def lead(self, routes, keep):
        for place in [place for place in self.ports if peerless(place) in self.kept]:
            self.ports[place] = self.kept.pop(peerless(place))
        return super().lead(routes, keep)


def peerless(place):
    """A service of whichever peer."""
    key, way = place
    return key.name, way


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


class KeepsEverythingOrNothing(MemoryGateway):
    def lead(self, routes, keep):
        return super().lead(routes, None if keep is None else frozenset())


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
    "test_g7_services_of_one_name_lead_each_to_its_own_peer": [OneAddressForEachName, ForgetsWhoseAddress],
    "test_g7_what_is_kept_stays_as_it_is": [KeepsNothing, KeepsOnlyWhatIsNamed, KeepsEverythingOrNothing],
    "test_g7_what_is_neither_wanted_nor_kept_leads_nowhere": [LeadsForEver],
    "test_g8_only_the_owners_own_authority_vouches_for_it": [BelievesAnyAuthority, BelievesAnyPeer],
    "test_g8_an_ingress_presents_one_of_the_services_sans": [BelievesAnySan, WantsEverySan],
    "test_g8_a_service_without_sans_is_refused": [TakesWhatHasNoSans, GivesNoReason],
}
