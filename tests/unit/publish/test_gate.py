"""What passes the gate, what waits, what is taken back, and who gets a server name that two want."""

import pytest

from hamlet_core.api import Endpoint, FederatedService, Protocol, PublishRoute, Refused, ServicePort
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.gate import WAITS, Gate, Offer

MEMBERS = {"a": ("east", "west"), "b": ("north",)}


def service(name, state="", sni=""):
    return FederatedService(name=name, fqdn=name, endpoints=(), instances=(), description=state, sans=(sni,))


def route(sni, name="", *, port="http", protocol=Protocol.HTTP, address="10.0.0.1", registry="main"):
    return PublishRoute(
        sni=sni,
        fqdn=sni,
        registry=registry,
        service=name or sni.partition(".")[0],
        port=ServicePort(name=port, port=80, protocol=protocol),
        endpoints=(Endpoint(address=address, port=8080),),
        peers=(),
    )


def offer(name, *routes, state="", rank=(0, "")):
    return Offer(service(name, state), routes, rank if rank[1] else (rank[0], name))


class Bench:
    """A gate before a catalog; `shown` is what a consumer of each audience has."""

    def __init__(self):
        self.catalog = Catalog(lambda each: Payload(v1alpha1=each.description.encode(), v1alpha2=b""))
        self.gate = Gate(self.catalog)
        self.replace()

    def replace(self, members=MEMBERS, **offers):
        self.gate.replace({audience: offers.get(audience, []) for audience in members}, members)

    def settle(self, *refused):
        routes = self.gate.wanted()
        self.gate.settle(routes, {sni: Refused("no") for sni in refused})
        return routes

    def shown(self, audience="a"):
        entries = self.catalog.log(audience).entries
        return {name: each.payload.v1alpha1.decode() for name, each in entries.items() if each.payload is not None}

    def peers(self):
        return {each.sni: each.peers for each in self.gate.wanted()}


@pytest.fixture
def bench():
    return Bench()


def test_what_needs_no_route_passes_at_once_and_nothing_of_it_is_kept(bench):
    bench.gate.put("a", offer("x", state="1"))
    bench.replace(a=[offer("x", state="1"), offer("y", state="1")])
    assert bench.shown() == {"x": "1", "y": "1"}
    assert bench.gate.version == 0
    kept = {name: table for name, table in vars(bench.gate).items() if isinstance(table, dict) and name != "_peers"}
    assert not any(kept.values())
    bench.gate.remove("a", "x")
    assert bench.shown() == {"y": "1"}
    assert not bench.gate.opened


def test_what_needs_a_route_is_offered_once_the_gateway_leads_to_it(bench):
    bench.gate.put("a", offer("x", route("x")))
    assert bench.shown() == {}
    assert bench.gate.waiting("a", "x") == WAITS
    assert bench.peers() == {"x": ("east", "west")}
    assert list(bench.gate.problems()) == [], "to wait is no problem"
    bench.settle()
    assert bench.shown() == {"x": ""}
    assert bench.gate.waiting("a", "x") == ""


def test_what_the_gateway_was_not_asked_for_goes_on_waiting(bench):
    bench.gate.put("a", offer("x", route("x")))
    asked = bench.gate.wanted()
    bench.gate.put("a", offer("y", route("y")))
    bench.gate.settle(asked, {})
    assert bench.shown() == {"x": ""}
    assert bench.gate.waiting("a", "y") == WAITS


def test_a_removal_passes_at_once_and_its_route_goes_after_it(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle()
    version = bench.gate.version
    bench.gate.remove("a", "x")
    assert bench.shown() == {}
    assert bench.gate.wanted() == ()
    assert bench.gate.version > version


def test_a_change_that_needs_no_other_route_passes_at_once(bench):
    bench.gate.put("a", offer("x", route("x"), state="1"))
    bench.settle()
    version = bench.gate.version
    bench.gate.put("a", offer("x", route("x"), state="2"))
    assert (bench.shown(), bench.gate.version) == ({"x": "2"}, version)
    bench.gate.put("a", offer("x", route("x", address="10.0.0.2"), state="3"))
    assert bench.shown() == {"x": "3"}, "the way there is the same, wherever it ends"
    assert bench.gate.version > version
    assert bench.settle()[0].endpoints[0].address == "10.0.0.2"


@pytest.mark.parametrize(
    "form",
    [
        (route("x"), route("grpc.x", "x", port="grpc")),
        (route("x", port="other"),),
        (route("x", protocol=Protocol.TCP),),
    ],
    ids=["a port more", "another port", "another protocol"],
)
def test_a_form_that_needs_another_route_waits_and_the_one_before_stands(bench, form):
    bench.gate.put("a", offer("x", route("x"), state="1"))
    bench.settle()
    bench.gate.put("a", offer("x", *form, state="2"))
    assert bench.shown() == {"x": "1"}
    assert bench.gate.waiting("a", "x") == WAITS
    bench.settle()
    assert bench.shown() == {"x": "2"}


def test_a_refusal_takes_the_service_back_and_is_told(bench):
    bench.gate.put("a", offer("x", route("x"), state="1"))
    bench.settle()
    bench.gate.put("a", offer("x", route("x"), route("grpc.x", "x", port="grpc"), state="2"))
    bench.settle("grpc.x")
    assert bench.shown() == {}, "its form before is no longer what a rule says"
    assert list(bench.gate.problems()) == [("main", "x", "the gateway refuses it: no")]
    bench.settle()
    assert bench.shown() == {"x": "2"}
    assert list(bench.gate.problems()) == []


def test_what_was_refused_in_another_form_waits_for_another_answer(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle("x")
    bench.gate.put("a", offer("x", route("x", address="10.0.0.2")))
    assert bench.gate.waiting("a", "x") == WAITS
    bench.settle()
    assert bench.shown() == {"x": ""}


def test_one_refusal_keeps_no_other_service_back(bench):
    bench.replace(a=[offer("x", route("x")), offer("y", route("y"))], b=[offer("y", route("y"))])
    bench.settle("x")
    assert (bench.shown("a"), bench.shown("b")) == ({"y": ""}, {"y": ""})


@pytest.mark.parametrize("one_by_one", [True, False])
def test_what_was_direct_and_no_longer_may_be_is_withdrawn_before_the_gateway_has_answered(bench, one_by_one):
    bench.gate.put("a", offer("x", state="direct"))
    if one_by_one:
        bench.gate.put("a", offer("x", route("x"), state="led"))
    else:
        bench.replace(a=[offer("x", route("x"), state="led")])
    assert bench.shown() == {}
    bench.settle("x")
    assert bench.shown() == {}
    bench.settle()
    assert bench.shown() == {"x": "led"}
    bench.gate.put("a", offer("x", state="direct"))
    assert (bench.shown(), bench.gate.wanted()) == ({"x": "direct"}, ())


def test_one_route_serves_all_audiences_and_each_waits_for_its_own_peers(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle()
    bench.gate.put("b", offer("x", route("x")))
    assert bench.peers() == {"x": ("east", "north", "west")}
    assert (bench.shown("a"), bench.shown("b")) == ({"x": ""}, {})
    bench.settle()
    assert bench.shown("b") == {"x": ""}
    bench.gate.remove("a", "x")
    assert bench.peers() == {"x": ("north",)}
    assert bench.shown("b") == {"x": ""}


def test_a_peer_that_joins_sees_what_the_others_of_its_audience_have(bench):
    bench.replace(a=[offer("x", route("x"), state="1")])
    bench.settle()
    bench.replace({"a": ("east", "south", "west")}, a=[offer("x", route("x"), state="2")])
    assert bench.shown() == {"x": "1"}, "nothing is taken from those who can reach it"
    assert bench.peers() == {"x": ("east", "south", "west")}
    bench.settle()
    assert bench.shown() == {"x": "2"}


def test_the_lower_rank_gets_a_server_name_in_all_audiences_and_the_loser_is_told(bench):
    high = offer("b.x", route("b.x", "b", registry="second"), rank=(1, "b"))
    low = offer("x", route("x", "a"), route("b.x", "a", port="b"), rank=(0, "a"))
    bench.gate.put("b", high)
    bench.settle()
    assert bench.shown("b") == {"b.x": ""}
    bench.gate.put("a", low)
    assert bench.shown("b") == {}, "the name leads elsewhere from now on"
    assert list(bench.gate.problems()) == [
        (
            "second",
            "b",
            (
                "its server name 'b.x' is taken by 'a' of registry 'main' (published as 'b.x'):"
                " choose another name in a rule"
            ),
        )
    ]
    bench.settle()
    assert bench.shown("a") == {"x": ""}
    bench.gate.remove("a", "x")
    assert bench.gate.waiting("b", "b.x") == WAITS
    bench.settle()
    assert bench.shown("b") == {"b.x": ""}


def test_a_service_that_comes_back_while_its_route_is_taken_away_waits_for_it(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle()
    bench.gate.remove("a", "x")
    asked = bench.gate.wanted()
    bench.gate.put("a", offer("x", route("x")))
    assert bench.shown() == {"x": ""}, "it is in force as far as one knows"
    bench.gate.settle(asked, {})
    assert bench.shown() == {}
    assert bench.gate.waiting("a", "x") == WAITS
    bench.settle()
    assert bench.shown() == {"x": ""}


def test_what_was_refused_while_it_changed_is_not_offered_in_its_old_form(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle()
    bench.gate.put("a", offer("x", route("x", address="10.0.0.2")))
    asked = bench.gate.wanted()
    bench.gate.put("a", offer("x", route("x", address="10.0.0.3")))
    bench.gate.settle(asked, {"x": Refused("no")})
    assert bench.shown() == {}
    assert bench.gate.waiting("a", "x") == WAITS
    bench.settle()
    assert bench.shown() == {"x": ""}


def test_peers_that_leave_while_the_gateway_is_asked_are_no_reason_to_wait(bench):
    bench.gate.put("a", offer("x", route("x")))
    bench.settle()
    bench.replace({"a": ("east",)}, a=[offer("x", route("x"), state="2")])
    assert bench.shown() == {"x": "2"}
    bench.settle()
    assert (bench.shown(), bench.peers()) == ({"x": "2"}, {"x": ("east",)})


def test_an_audience_that_is_left_claims_nothing_and_its_log_stands_still(bench):
    reading = bench.catalog.subscribe("a")
    bench.replace(a=[offer("x", route("x"), rank=(0, "a"))])
    bench.settle()
    bench.replace({"b": ("east",)}, b=[offer("y", route("x", "y"), rank=(1, "y"))])
    bench.gate.retire("a")
    assert [each.service for each in bench.gate.wanted()] == ["y"]
    assert bench.shown("a") == {"x": ""}, "whoever reads it has yet to move"
    bench.settle()
    assert bench.shown("b") == {"y": ""}
    reading.close()


def test_the_gate_is_open_once_the_gateway_has_answered_even_about_nothing(bench):
    assert not bench.gate.opened
    bench.settle()
    assert bench.gate.opened
