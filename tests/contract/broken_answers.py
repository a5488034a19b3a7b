"""Gateways with one fault each in what they answer, or in what they do beside it, by the check that must find it."""

from dataclasses import replace

from hamlet_core.api import Endpoint, ImportKey, Ingress, Refused, Route, hookimpl
from hamlet_core.api.testing import EgressContract, IngressContract, MemoryGateway
from hamlet_core.api.testing.memory_gateway import MemoryGatewayAdapter
from tests.contract.broken_ways_out import BySidecars

ELSEWHERE = Ingress(endpoints=(Endpoint(address="192.0.2.9", port=443),), sans=("spiffe://west.example/ingress",))


class IsElsewhereAfterwards(MemoryGateway):
    """Is reached elsewhere, once nobody has known where."""

    def move(self, ingress):
        super().move(ingress and ELSEWHERE)


class IsElsewhereInAnOutage(MemoryGateway):
    """Has it settled by its options how it is reached, and does not look there."""

    settled = True

    def ingresses(self, stop):
        if self.down:
            yield ELSEWHERE
            stop.wait(20)
        else:
            yield from super().ingresses(stop)


class TrustAnswersOnce(MemoryGateway):
    def adapter_type(self):
        return replace(super().adapter_type(), open=lambda options, context: TrustAnswer(self))


class TrustAnswer(MemoryGatewayAdapter):
    answered = False

    @hookimpl
    def gateway_trust(self, trust):
        first, self.answered = not self.answered, True
        super().gateway_trust(trust)
        return True if first else None


class BelievesNames(MemoryGateway):
    """Believes an authority that bears the name of one it knows."""

    def admits(self, sni, bundle, trust_domain):
        named = (each.bundle for each in self.trust.peers if bundle and each.bundle[-5:] == bundle[-5:])
        return super().admits(sni, next(named, bundle), trust_domain)


class CutsAtOnce(MemoryGateway):
    """Lets the second peer in, and hangs up."""

    def __init__(self, **ways):
        super().__init__(**ways)
        self.standing = HangsUp()

    def admits(self, sni, bundle, trust_domain):
        self.standing.caller = bundle or ""
        return super().admits(sni, bundle, trust_domain)


class HangsUp(list):
    caller = ""

    def append(self, standing):
        standing.cut = self.caller.endswith("north")
        super().append(standing)


class SaysItRefuses(MemoryGateway):
    """Leads in what it says that it refuses."""

    def publish(self, routes):
        return {**super().publish(routes), **{each.sni: Refused("no") for each in routes}}


class SaysItRefusesAtFirst(MemoryGateway):
    asked = False

    def publish(self, routes):
        first, self.asked = not self.asked, True
        refusals = super().publish(routes)
        return {each.sni: Refused("not yet") for each in routes} if first else refusals


class LetsNobodyIn(MemoryGateway):
    def admits(self, sni, bundle, trust_domain):
        return None


class RefusesTheSame(MemoryGateway):
    """Says that it refuses what stands already."""

    def publish(self, routes):
        same = {each.sni: each for each in routes} == self.published
        refusals = super().publish(routes)
        return {each.sni: Refused("it stands") for each in routes} if same else refusals


class RefusesWithoutAWord(MemoryGateway):
    def publish(self, routes):
        super().publish(routes)
        return {}


class RefusesWithoutAReason(MemoryGateway):
    def publish(self, routes):
        return {sni: Refused("") for sni in super().publish(routes)}


class RefusesAfterwards(MemoryGateway):
    """Says once more, after an outage, that it takes nothing."""

    failed = False

    def called(self, hook):
        self.failed |= self.down
        super().called(hook)

    def publish(self, routes):
        refusals = super().publish(routes)
        return {each.sni: Refused("out of reach") for each in routes} if self.failed else refusals


class LeadsNothingMoreAfterwards(RefusesAfterwards):
    def publish(self, routes):
        return {} if self.failed else MemoryGateway.publish(self, routes)


class SaysAnIngress(MemoryGateway):
    """Says how it would be reached if it were."""

    def ingresses(self, stop):
        yield self.ingress
        stop.wait(20)


class RefusesAllWithoutAReason(MemoryGateway):
    def publish(self, routes):
        return {each.sni: Refused("") for each in routes}


class RefusesTheFirst(MemoryGateway):
    """Says of one import that it takes none."""

    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        return {routes[0].key: answers[routes[0].key]} if routes else answers


class AnswersForMore(MemoryGateway):
    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        return {**answers, ImportKey("east", "ghost"): Refused("nobody asked")}


class OneRefusedNoneLed(MemoryGateway):
    """Has ways for the others, which lead nowhere."""

    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        if any(isinstance(each, Refused) for each in answers.values()):
            self.imported = {}
        return answers


class LeadsNobodyOut(MemoryGateway):
    def believes(self, route, bundle, sans):
        return False


class AnotherAddressWhenWider(MemoryGateway):
    """Has other addresses for all when there are more."""

    def lead(self, routes, keep):
        if self.imported and self.imported.keys() < {each.key for each in routes}:
            self.ports = {}
        return super().lead(routes, keep)


class SwapsAddresses(MemoryGateway):
    """Has its addresses in another order after a restart."""

    def opened(self):
        self.ports = dict(zip(self.ports, [*self.ports.values()][::-1], strict=True))


class MovesWithMore(BySidecars):
    """Says more of where the owner is, once that has moved."""

    def __init__(self, **ways):
        super().__init__(**ways)
        self.first = {}

    def route(self, route):
        answer = super().route(route)
        if not isinstance(answer, Route) or self.first.setdefault(route.key, answer) == answer:
            return answer
        return replace(answer, endpoints={**answer.endpoints, "more": answer.endpoints["tcp"]})


class KeepsTheAddressAlone(MemoryGateway):
    """Keeps the address, and leads nowhere by it."""

    def lead(self, routes, keep):
        answers = super().lead(routes, keep)
        self.imported = {each.key: each for each in routes if isinstance(answers[each.key], Route)}
        return answers


class AnotherAddressWhenWantedAgain(MemoryGateway):
    """Keeps a way as long as it is kept alone."""

    kept = frozenset()

    def lead(self, routes, keep):
        wanted = {each.key for each in routes}
        again = [place for place in self.ports if place[0] in wanted & self.kept]
        self.ports.update({place: port for port, place in enumerate(again, 40_000)})
        answers = super().lead(routes, keep)
        self.kept = frozenset(self.imported) - wanted
        return answers


FAULTS = {
    "test_g2_while_nobody_knows_how_the_mesh_is_reached_the_watch_says_so": [
        IsElsewhereAfterwards,
        IsElsewhereInAnOutage,
    ],
    "test_g4_a_caller_is_judged_by_the_trust_of_now": [SaysItRefuses, TrustAnswersOnce],
    "test_g4_an_authority_is_believed_once_its_bundle_is_handed_over": [SaysItRefuses, BelievesNames],
    "test_g4_standing_connections_of_a_peer_that_is_gone_are_cut": [SaysItRefuses, CutsAtOnce],
    "test_g5_what_is_published_is_led_to_its_own_endpoint_as_soon_as_the_call_returns": [SaysItRefuses],
    "test_g5_a_route_that_changes_leads_elsewhere": [SaysItRefuses],
    "test_g5_nobody_else_gets_in": [SaysItRefuses, LetsNobodyIn],
    "test_g6_publishing_the_same_again_disturbs_nobody": [SaysItRefusesAtFirst, RefusesTheSame],
    "test_g6_one_route_that_is_refused_keeps_no_other_out": [RefusesWithoutAWord, RefusesWithoutAReason],
    "test_g6_a_call_that_comes_to_nothing_says_so_and_leaves_what_stood": [
        SaysItRefusesAtFirst,
        RefusesAfterwards,
        LeadsNothingMoreAfterwards,
    ],
    "test_g6_an_import_that_is_refused_keeps_no_other_out": [AnswersForMore, OneRefusedNoneLed],
    "test_g7_a_route_keeps_its_addresses_as_long_as_it_is_wanted": [AnotherAddressWhenWider],
    "test_g7_a_service_whose_owner_moves_is_called_at_the_same_address": [MovesWithMore],
    "test_g7_services_of_one_name_lead_each_to_its_own_peer": [SwapsAddresses],
    "test_g7_what_is_kept_stays_as_it_is": [KeepsTheAddressAlone, AnotherAddressWhenWantedAgain],
    "test_g7_what_is_neither_wanted_nor_kept_leads_nowhere": [LeadsNobodyOut],
    "test_g9_a_gateway_without_an_ingress_says_so_and_takes_no_route_in": [SaysAnIngress, RefusesAllWithoutAReason],
    "test_g9_a_gateway_without_a_way_out_takes_no_import": [RefusesTheFirst],
}
ONE_WAY = {SaysAnIngress: EgressContract, RefusesAllWithoutAReason: EgressContract, RefusesTheFirst: IngressContract}
GROSS = frozenset({SaysItRefuses, SaysItRefusesAtFirst, LetsNobodyIn, LeadsNobodyOut})
