"""The contract of a gateway as tests. G1 to G10 are the rules of `GatewaySpec`, in its words.

Every test acts through the hooks and through `GatewayBackend`: workloads really connect, or are refused.
The name of a test begins with its rule: `test_g4_...` is about G4. A gateway that leads calls one way only has
a contract of its own: `IngressContract` or `EgressContract`.
"""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from hamlet_core.api import GatewayUnavailable, Refused, Severity, Stop
from hamlet_core.api.testing.gateway_backend import GatewayBackend
from hamlet_core.api.testing.gateway_stage import GatewayAgents, GatewayStage, ingress_of, told_of, word
from hamlet_core.api.testing.in_time import Late, in_time
from hamlet_core.api.testing.leaks import require_nothing_left

LIVES = 5
"""Agents that come and go, to see what each leaves behind."""


class EveryGatewayRules(GatewayStage):
    """The checks of a gateway, whichever way it leads calls."""

    @pytest.mark.parametrize("when", ["while it waits", "before it begins"])
    def test_g3_a_watch_ends_when_told_to(self, agents: GatewayAgents, when: str) -> None:
        agent = agents.start(self.names.peer)

        def attempt() -> None:
            stop, seen = Stop(), threading.Event()
            errors: list[BaseException] = []
            if when == "before it begins":
                stop.set()

            def watch() -> None:
                try:
                    for _ in agent.gateway_ingress(stop=stop):
                        seen.set()
                except BaseException as error:  # noqa: BLE001 - looked at below
                    errors.append(error)
                    seen.set()

            thread = threading.Thread(target=watch, name="contract-ingress", daemon=True)
            thread.start()
            if when == "while it waits":
                assert seen.wait(self.deadline)
                stop.set()
            thread.join(self.stop_deadline)
            if thread.is_alive():
                message = f"the watch goes on {self.stop_deadline:g} s after it was stopped"
                raise Late(message)
            assert errors == []

        in_time(attempt)

    def test_g3_an_agent_that_is_closed_leaves_no_thread_and_no_socket(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        peer = self.names.peer
        inward = self.way_in("orders", backend.serve("orders"))
        outward = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))

        def live() -> None:
            agent = agents.start(peer)
            told_of(agent)
            agent.gateway_publish(routes=[inward])
            agent.gateway_import(routes=[outward], keep=frozenset())
            agents.stop(agent)

        def lives() -> None:
            for _ in range(LIVES):
                live()

        live()  # what a library keeps for good is there now
        require_nothing_left(lives, LIVES, self.stop_deadline, f"{LIVES} agents that came and went")

    def test_g10_a_gateway_that_cannot_be_reached_is_a_finding(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        with backend.outage():
            assert Severity.ERROR in {finding.severity for finding in agent.gateway_check()}
        self.until(
            lambda: Severity.ERROR not in {finding.severity for finding in agent.gateway_check()},
            "nothing is wrong with a gateway that can be reached",
        )


class IngressRules(GatewayStage):
    """The checks of `gateway_ingress`."""

    def test_g1_an_ingress_has_an_endpoint_and_presents_its_sans(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        route = self.way_in("orders", backend.serve("orders"))
        agent.gateway_publish(routes=[route])  # an ingress that leads nowhere need not show a certificate
        ingress = ingress_of(agent)
        assert ingress.endpoints
        assert ingress.sans
        assert set(ingress.sans) <= set(backend.presented(ingress, route.sni))

    def test_g2_while_nobody_knows_how_the_mesh_is_reached_the_watch_says_so(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        known, hidden = ingress_of(agent), backend.hide()
        if hidden is None:  # its options settle it: no outage makes that unknown
            with backend.outage():
                assert ingress_of(agent) == known
            return
        with hidden, pytest.raises(GatewayUnavailable):
            ingress_of(agent)
        assert ingress_of(agent) == known


class TrustRules(GatewayStage):
    """The checks of `gateway_trust`."""

    def test_g4_a_caller_is_judged_by_the_trust_of_now(self, backend: GatewayBackend, agents: GatewayAgents) -> None:
        east, north = self.names.peer, self.names.other_peer
        agent = agents.start(east, north)
        route = self.way_in("orders", backend.serve("orders"), peers=(east, north))
        assert not agent.gateway_publish(routes=[route])
        ingress = ingress_of(agent)
        for peers in ((east, north), (east,), (north,), (east, north)):
            assert agent.gateway_trust(trust=backend.trust(*peers)) is True
            heard = {peer for peer in (east, north) if word(backend.enter(ingress, route.sni, peer)) == "orders"}
            assert heard == set(peers)

    def test_g4_an_authority_is_believed_once_its_bundle_is_handed_over(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        east = self.names.peer
        agent = agents.start(east)
        route = self.way_in("orders", backend.serve("orders"))
        assert not agent.gateway_publish(routes=[route])
        ingress = ingress_of(agent)
        backend.rotate(east)
        assert word(backend.enter(ingress, route.sni, east)) is None
        agent.gateway_trust(trust=backend.trust(east))
        assert word(backend.enter(ingress, route.sni, east)) == "orders"

    def test_g4_standing_connections_of_a_peer_that_is_gone_are_cut(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        east, north = self.names.peer, self.names.other_peer
        agent = agents.start(east, north)
        route = self.way_in("orders", backend.serve("orders"), peers=(east, north))
        assert not agent.gateway_publish(routes=[route])
        standing = backend.enter(ingress_of(agent), route.sni, north)
        assert standing is not None
        assert standing.ask() == "orders"
        agent.gateway_trust(trust=backend.trust(east))
        self.until(lambda: standing.ask() is None, f"the connection of {north} is cut")
        standing.close()


class PublishRules(GatewayStage):
    """The checks of `gateway_publish`."""

    def test_g5_what_is_published_is_led_to_its_own_endpoint_as_soon_as_the_call_returns(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        ingress = ingress_of(agent)
        routes = [self.way_in(name, backend.serve(name)) for name in ("orders", "cart", "users")]
        for count in (1, 3, 2):
            assert not agent.gateway_publish(routes=routes[:count])
            heard = [word(backend.enter(ingress, each.sni, self.names.peer)) for each in routes]
            assert heard == [*["orders", "cart", "users"][:count], *[None] * (3 - count)]

    def test_g5_a_route_that_changes_leads_elsewhere(self, backend: GatewayBackend, agents: GatewayAgents) -> None:
        agent = agents.start(self.names.peer)
        for each in ("before", "after"):
            route = self.way_in("orders", backend.serve(each))
            assert not agent.gateway_publish(routes=[route])
            assert word(backend.enter(ingress_of(agent), route.sni, self.names.peer)) == each

    def test_g5_nobody_else_gets_in(self, backend: GatewayBackend, agents: GatewayAgents) -> None:
        east, north = self.names.peer, self.names.other_peer
        agent = agents.start(east, north)
        mine, other = self.way_in("orders", backend.serve("orders")), self.way_in("cart", backend.serve("cart"))
        assert not agent.gateway_publish(routes=[mine, other])
        ingress = ingress_of(agent)
        assert word(backend.enter(ingress, mine.sni, east)) == "orders"
        for sni, peer in ((mine.sni, north), (mine.sni, self.stranger), (mine.sni, None), (f"no.{mine.sni}", east)):
            assert word(backend.enter(ingress, sni, peer)) is None, f"{peer} got in by {sni}"

    def test_g5_an_authority_vouches_for_workloads_of_its_own_peer_alone(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        east, north = self.names.peer, self.names.other_peer
        agent = agents.start(east, north)
        mine = self.way_in("orders", backend.serve("orders"))
        other = self.way_in("cart", backend.serve("cart"), peers=(north,))
        assert not agent.gateway_publish(routes=[mine, other])
        ingress = ingress_of(agent)
        assert word(backend.enter(ingress, mine.sni, east, signed_by=east)) == "orders"
        for caller, authority in ((east, north), (north, east), (east, self.stranger), (self.stranger, east)):
            refused = backend.enter(ingress, mine.sni, caller, signed_by=authority)
            assert word(refused) is None, f"the authority of {authority} vouched for a workload of {caller}"

    def test_g6_publishing_the_same_again_disturbs_nobody(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        routes = [self.way_in(name, backend.serve(name)) for name in ("orders", "cart")]
        assert not agent.gateway_publish(routes=routes)
        standing = backend.enter(ingress_of(agent), routes[0].sni, self.names.peer)
        assert standing is not None
        assert not agent.gateway_publish(routes=routes[::-1])
        assert standing.ask() == "orders"
        standing.close()

    def test_g6_one_route_that_is_refused_keeps_no_other_out(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        good, bad = self.way_in("orders", backend.serve("orders")), self.way_in("cart", backend.serve("cart"))
        spoiled = backend.spoil(bad)
        answers = agent.gateway_publish(routes=[each for each in (spoiled, good) if each is not None])
        assert set(answers) == ({spoiled.sni} if spoiled is not None else set())
        assert all(isinstance(each, Refused) and each.reason for each in answers.values())
        assert word(backend.enter(ingress_of(agent), good.sni, self.names.peer)) == "orders"

    def test_g6_a_call_that_comes_to_nothing_says_so_and_leaves_what_stood(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        old, new = self.way_in("orders", backend.serve("orders")), self.way_in("cart", backend.serve("cart"))
        assert not agent.gateway_publish(routes=[old])
        ingress = ingress_of(agent)
        with backend.outage(), pytest.raises(GatewayUnavailable):
            agent.gateway_publish(routes=[new])
        assert word(backend.enter(ingress, old.sni, self.names.peer)) == "orders"
        assert not agent.gateway_publish(routes=[new])
        assert word(backend.enter(ingress, new.sni, self.names.peer)) == "cart"


class ImportRules(GatewayStage):
    """The checks of `gateway_import`."""

    def test_g6_an_import_that_is_refused_keeps_no_other_out(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        good = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))
        bad = self.way_out("mail", backend.owner(peer, "mail", self.san(peer)), sans=())
        answers = agent.gateway_import(routes=[bad, good], keep=frozenset())
        assert set(answers) == {bad.key, good.key}
        assert not isinstance(answers[good.key], Refused)
        assert word(backend.leave(good, answers[good.key])) == "stock"

    def test_g6_an_import_that_comes_to_nothing_says_so_and_leaves_what_stood(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        old = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))
        (way,) = self.lead(agent, old)
        with backend.outage(), pytest.raises(GatewayUnavailable):
            agent.gateway_import(routes=[], keep=frozenset())
        assert word(backend.leave(old, way)) == "stock"

    def test_g7_a_route_keeps_its_addresses_as_long_as_it_is_wanted(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        first, second, third = (
            self.way_out(name, backend.owner(peer, name, self.san(peer))) for name in ("stock", "mail", "shop")
        )
        before = self.lead(agent, first, second)
        wider = self.lead(agent, third, second, first)
        assert wider[:0:-1] == before
        agent = agents.restart(agent, self.names.peer)
        assert self.lead(agent, third, second, first) == wider

    def test_g7_a_service_whose_owner_moves_is_called_at_the_same_address(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        ways = []
        for each in ("before", "after"):
            route = self.way_out("stock", backend.owner(peer, each, self.san(peer)))
            ways += self.lead(agent, route)
            assert word(backend.leave(route, ways[-1])) == each
        if ways[0].originates_tls:
            assert ways[0] == ways[1]
        else:  # the address is the owner's own: whoever wrote the import leads callers there
            assert ways[1] == replace(ways[0], endpoints={"tcp": route.service.endpoints})

    def test_g7_services_of_one_name_lead_each_to_its_own_peer(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        peers = (self.names.peer, self.names.other_peer)
        agent = agents.start(*peers)
        routes = []
        for peer in peers:
            route = self.way_out("stock", backend.owner(peer, f"stock of {peer}", self.san(peer)), peer=peer)
            routes.append(replace(route, service=replace(route.service, name="stock")))
        ways = self.lead(agent, *routes)
        heard = [word(backend.leave(*each)) for each in zip(routes, ways, strict=True)]
        assert heard == [f"stock of {peer}" for peer in peers]
        agent = agents.restart(agent, *peers)
        assert self.lead(agent, *routes) == ways

    @pytest.mark.parametrize("keep", ["named", "everything"])
    def test_g7_what_is_kept_stays_as_it_is(self, backend: GatewayBackend, agents: GatewayAgents, keep: str) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        kept = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))
        other = self.way_out("mail", backend.owner(peer, "mail", self.san(peer)))
        (way,) = self.lead(agent, kept)
        agent = agents.restart(agent, self.names.peer)
        for routes in ([], [other]):
            agent.gateway_import(routes=routes, keep=frozenset({kept.key}) if keep == "named" else None)
            assert word(backend.leave(kept, way)) == "stock"
        assert self.lead(agent, other, kept)[1] == way

    def test_g7_what_is_neither_wanted_nor_kept_leads_nowhere(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        gone = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))
        (way,) = self.lead(agent, gone)
        assert word(backend.leave(gone, way)) == "stock"
        agent.gateway_import(routes=[], keep=frozenset())
        assert word(backend.leave(gone, way)) is None

    def test_g8_only_the_owners_own_authority_vouches_for_it(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        peer, other = self.names.peer, self.names.other_peer
        agent = agents.start(peer, other)
        for signed_by, heard in (("", "stock"), (other, None), (self.stranger, None)):
            endpoint = backend.owner(peer, "stock", self.san(peer), signed_by=signed_by)
            route = self.way_out(f"stock-{signed_by or peer}", endpoint)
            (way,) = self.lead(agent, route)
            assert word(backend.leave(route, way)) == heard

    def test_g8_an_ingress_presents_one_of_the_services_sans(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        own, another = self.san(peer), self.other_san(peer)
        for number, (presented, expected, heard) in enumerate(
            ((own, own, "stock"), (own, another + own, "stock"), (another, own, None))
        ):
            endpoint = backend.owner(peer, "stock", presented)
            route = self.way_out(f"stock-{number}", endpoint, sans=expected)
            (way,) = self.lead(agent, route)
            assert word(backend.leave(route, way)) == heard

    def test_g8_a_service_without_sans_is_refused(self, backend: GatewayBackend, agents: GatewayAgents) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        route = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)), sans=())
        answer = agent.gateway_import(routes=[route], keep=frozenset())[route.key]
        assert isinstance(answer, Refused)
        assert answer.reason


class NoIngressRules(GatewayStage):
    """The checks of a gateway that leads calls out alone."""

    def test_g9_a_gateway_without_an_ingress_says_so_and_takes_no_route_in(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent = agents.start(self.names.peer)
        assert told_of(agent) is None
        routes = [self.way_in(name, backend.serve(name)) for name in ("orders", "cart")]
        answers = agent.gateway_publish(routes=routes)
        assert set(answers) == {route.sni for route in routes}
        assert all(isinstance(each, Refused) and each.reason for each in answers.values())


class NoEgressRules(GatewayStage):
    """The checks of a gateway that leads calls in alone."""

    def test_g9_a_gateway_without_a_way_out_takes_no_import(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        routes = [self.way_out(name, backend.owner(peer, name, self.san(peer))) for name in ("stock", "mail")]
        answers = agent.gateway_import(routes=routes, keep=frozenset())
        assert set(answers) == {route.key for route in routes}
        assert all(isinstance(each, Refused) and each.reason for each in answers.values())


class IngressContract(PublishRules, TrustRules, IngressRules, NoEgressRules, EveryGatewayRules):
    """Of a gateway that by its settings leads calls in alone. Subclass it as `GatewayContract`."""


class EgressContract(ImportRules, NoIngressRules, EveryGatewayRules):
    """Of a gateway that by its settings leads calls out alone. Subclass it as `GatewayContract`."""


class GatewayContract(ImportRules, PublishRules, TrustRules, IngressRules, EveryGatewayRules):
    """Of a gateway that leads calls in and out: subclass it in a plugin's tests and override `backend`."""
