"""In whatever order it happens, nothing is offered that the gateway does not lead to, and nothing waits for ever."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hamlet_core.api import Endpoint, FederatedService, Protocol, PublishRoute, Refused, ServicePort
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.gate import WAITS, Gate, Offer

AUDIENCES = ("a", "b")
PEERS = ("east", "north", "south")
RANKS = {"cart": (0, "cart"), "orders": (0, "orders"), "users": (1, "users")}
SNIS = ("x", "grpc.x", "y")


def route(service, sni, port, address):
    return PublishRoute(
        sni=sni,
        fqdn=sni,
        registry="main" if RANKS[service][0] == 0 else "second",
        service=service,
        port=ServicePort(name=port, port=80, protocol=Protocol.HTTP),
        endpoints=(Endpoint(address=address, port=8080),),
        peers=(),
    )


@st.composite
def offers(draw):
    """A service published as one of the names that are also server names of others; or one that needs no route."""
    service = draw(st.sampled_from(sorted(RANKS)))
    name = draw(st.sampled_from(SNIS))
    snis = draw(st.sets(st.sampled_from(SNIS), max_size=2)) | {name} if draw(st.booleans()) else set()
    routes = tuple(
        route(service, sni, draw(st.sampled_from(["http", "grpc"])), draw(st.sampled_from(["1", "2"])))
        for sni in sorted(snis)
    )
    return described(name, routes, RANKS[service])


def described(name, routes, rank):
    """An offer whose service's description tells it from all others."""
    service = FederatedService(name=name, fqdn=name, endpoints=(), instances=(), description=f"{rank} {routes!r}")
    return Offer(service, routes, rank)


tables = st.dictionaries(
    st.sampled_from(AUDIENCES), st.lists(offers(), max_size=3, unique_by=lambda o: o.service.name)
)
members = st.lists(st.sampled_from(AUDIENCES), min_size=len(PEERS), max_size=len(PEERS)).map(
    lambda chosen: {
        audience: tuple(peer for peer, its in zip(PEERS, chosen, strict=True) if its == audience)
        for audience in AUDIENCES
    }
)


def new_gate():
    catalog = Catalog(lambda each: Payload(v1alpha1=each.description.encode(), v1alpha2=b""))
    return Gate(catalog), catalog


def shown(catalog, audience):
    entries = catalog.log(audience).entries
    return {name: each.payload.v1alpha1.decode() for name, each in entries.items() if each.payload is not None}


def origin(route):
    return (route.registry, route.service, route.port.name)


class GateMachine(RuleBasedStateMachine):
    """A gate beside what should be offered; `leads` is what the gateway said last, of what it was asked when."""

    @initialize(members=members)
    def start(self, members):
        self.gate, self.catalog = new_gate()
        self.members, self.members_asked = members, members
        self.offers: dict[tuple[str, str], Offer] = {}
        self.forms: dict[str, Offer] = {}
        self.leads: dict[str, PublishRoute] = {}
        self.asked = None
        self.spoken = dict.fromkeys(RANKS, Protocol.HTTP)
        self.gate.replace({audience: [] for audience in AUDIENCES}, members)

    def as_spoken(self, offer):
        """The offer with the protocol that its service speaks at present: a port has one, whoever it is for."""
        routes = tuple(
            replace(each, port=replace(each.port, protocol=self.spoken[each.service])) for each in offer.routes
        )
        return described(offer.service.name, routes, offer.rank)

    # --- what happens ----------------------------------------------------------------------------

    @rule(service=st.sampled_from(sorted(RANKS)), protocol=st.sampled_from([Protocol.HTTP, Protocol.TCP]))
    def speak(self, service, protocol):
        self.spoken[service] = protocol
        for (audience, _), offer in list(self.offers.items()):
            if offer.rank == RANKS[service]:
                self.put(audience, offer)

    @rule(audience=st.sampled_from(AUDIENCES), offer=offers())
    def put(self, audience, offer):
        offer = self.as_spoken(offer)
        self.offers[audience, offer.service.name] = self.forms[offer.service.description] = offer
        self.gate.put(audience, offer)

    @rule(audience=st.sampled_from(AUDIENCES), name=st.sampled_from(SNIS))
    def remove(self, audience, name):
        self.offers.pop((audience, name), None)
        self.gate.remove(audience, name)
        assert name not in shown(self.catalog, audience)

    @rule(table=tables, members=members)
    def replace(self, table, members):
        table = {audience: [self.as_spoken(each) for each in given] for audience, given in table.items()}
        self.members = members
        self.offers = {(audience, each.service.name): each for audience, given in table.items() for each in given}
        self.forms |= {each.service.description: each for each in self.offers.values()}
        self.gate.replace({audience: table.get(audience, []) for audience in AUDIENCES}, members)

    @rule(members=members)
    def move_peers(self, members):
        self.members = members
        table = {a: [o for (b, _), o in self.offers.items() if a == b] for a in AUDIENCES}
        self.gate.replace(table, members)

    @precondition(lambda self: self.asked is None)
    @rule()
    def ask(self):
        self.asked = (self.gate.wanted(), self.members)

    @precondition(lambda self: self.asked is not None)
    @rule(refused=st.sets(st.sampled_from(SNIS)))
    def answer(self, refused):
        routes, self.members_asked = self.asked
        self.asked = None
        self.leads = {each.sni: each for each in routes if each.sni not in refused}
        self.gate.settle(routes, {each.sni: Refused("no") for each in routes if each.sni in refused})

    @rule(refused=st.sets(st.sampled_from(SNIS)))
    def settle(self, refused):
        self.asked = None
        self.ask()
        self.answer(refused)
        waiting = {place: self.gate.waiting(*place) for place in self.offers}
        assert WAITS not in waiting.values(), "nothing is left to wait for"
        told = {(registry, service) for registry, service, _ in self.gate.problems()}
        for (audience, name), offer in self.offers.items():
            if offer.routes and self._loses_or_is_refused(offer):
                assert (offer.routes[0].registry, offer.routes[0].service) in told
                assert name not in shown(self.catalog, audience)
            else:
                assert shown(self.catalog, audience)[name] == offer.service.description

    def _loses_or_is_refused(self, offer):
        return any(
            each.sni not in self.leads or origin(self.leads[each.sni]) != origin(each) for each in offer.routes
        )

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def all_that_is_offered_is_led_to(self):
        for audience in AUDIENCES:
            for name, description in shown(self.catalog, audience).items():
                assert (audience, name) in self.offers, "what is withdrawn is gone at once"
                for each in self.forms[description].routes:
                    leads = self.leads[each.sni]
                    assert (origin(leads), leads.port.protocol) == (origin(each), each.port.protocol)
                    # A peer that joined since the gateway was asked sees what the others have.
                    there = set(self.members[audience]).intersection(self.members_asked[audience])
                    assert there <= set(leads.peers)

    @invariant()
    def what_needs_no_route_is_offered(self):
        for (audience, name), offer in self.offers.items():
            if not offer.routes:
                assert shown(self.catalog, audience)[name] == offer.service.description

    @invariant()
    def one_server_name_leads_to_the_service_of_the_lowest_rank_for_all_its_peers(self):
        claims: dict[str, list[tuple[tuple[int, str], str, str, PublishRoute]]] = {}
        for (audience, name), offer in self.offers.items():
            for each in offer.routes:
                claims.setdefault(each.sni, []).append((offer.rank, audience, name, each))
        wanted = {each.sni: each for each in self.gate.wanted()}
        assert list(wanted) == sorted(claims)
        for sni, found in claims.items():
            best = min(found, key=lambda claim: claim[:3])[3]
            assert origin(wanted[sni]) == origin(best)
            audiences = {audience for _, audience, _, each in found if origin(each) == origin(best)}
            assert set(wanted[sni].peers) == {peer for each in audiences for peer in self.members[each]}

    @invariant()
    def the_order_in_which_it_came_about_does_not_matter(self):
        gate, catalog = new_gate()
        gate.replace({audience: [] for audience in AUDIENCES}, self.members)
        for (audience, _), offer in sorted(self.offers.items(), reverse=True):
            gate.put(audience, offer)
        at_once, other = new_gate()
        table = {a: [o for (b, _), o in self.offers.items() if a == b] for a in AUDIENCES}
        at_once.replace(table, self.members)
        assert gate.wanted() == at_once.wanted() == self.gate.wanted()
        refusals = {each.sni: Refused("no") for each in gate.wanted() if each.sni == "y"}
        for each in (gate, at_once):
            each.settle(each.wanted(), refusals)
        assert sorted(gate.problems()) == sorted(at_once.problems())
        for audience in AUDIENCES:
            assert shown(catalog, audience) == shown(other, audience)


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
