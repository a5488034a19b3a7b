"""With a gateway that has to lead there first: which routes services need, and when the catalog has them."""

from datetime import UTC, datetime

import pytest

from hamlet_core.api import (
    Endpoint,
    Ingress,
    InvalidService,
    LocalService,
    Protocol,
    Refused,
    Remove,
    ServicePort,
    Snapshot,
    Upsert,
)
from hamlet_core.config.model import Config, PublishRule
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.gate import WAITS
from hamlet_core.publish.policy import Policy, decide, routes_of
from hamlet_core.publish.publication import Problem, Publication

NOW = datetime(2030, 1, 1, tzinfo=UTC)
INGRESS = Ingress(endpoints=(Endpoint(address="gw.west.example", port=8443),), sans=("gw.west.example",))
ALL = {"to": "all"}


def policy(*rules, gated=True, ingress=INGRESS, peers=("east", "north")):
    return Policy(
        mesh="west",
        domain="west.example",
        rules=tuple(map(PublishRule.model_validate, rules)),
        peers=peers,
        registries=("main", "second"),
        ingress=ingress,
        gated=gated,
    )


HTTP, GRPC, ADMIN = (ServicePort(name=name, port=port) for name, port in (("http", 80), ("grpc", 81), ("admin", 82)))
WEB = (ServicePort(name="http", port=80, protocol=Protocol.HTTP),)


def local(name, *, ports=WEB, labels=("http",), tags=()):
    endpoints = (Endpoint(address="10.0.0.1", port=8080, labels=labels),)
    return LocalService(name=name, ports=ports, endpoints=endpoints, tags=tags)


class Bench:
    def __init__(self, *rules, **others):
        self.catalog = Catalog(lambda each: Payload(v1alpha1=repr(each).encode(), v1alpha2=b""))
        self.publication = Publication(policy(*rules, **others), self.catalog, NOW)
        self.gate = self.publication.gate

    def report(self, *services, registry="main"):
        self.publication.observe(registry, Snapshot(services), NOW)
        return self

    def settle(self, *refused):
        routes = self.gate.wanted()
        self.gate.settle(routes, {sni: Refused("no") for sni in refused})
        return [each.sni for each in routes]

    def shown(self, peer="east"):
        entries = self.catalog.log(self.publication.audience(peer)).entries
        return sorted(name for name, each in entries.items() if each.payload is not None)


# --- which routes ------------------------------------------------------------------------------------

BOTH = Endpoint(address="10.0.0.2", port=1, labels=("http", "grpc"))
ONE = Endpoint(address="10.0.0.1", port=1, labels=("http",))
PLAIN = Endpoint(address="10.0.0.1", port=1)


@pytest.mark.parametrize(
    ("ports", "endpoints", "expected"),
    [
        ((HTTP,), (PLAIN,), {"x.example": [PLAIN]}),
        ((HTTP,), (BOTH, ONE, ONE), {"x.example": [ONE, BOTH]}),
        ((HTTP, GRPC), (BOTH, ONE), {"x.example": [ONE, BOTH], "grpc.x.example": [BOTH]}),
        ((HTTP, GRPC, ADMIN), (BOTH,), {"x.example": [BOTH], "grpc.x.example": [BOTH]}),
        ((ADMIN, HTTP), (ONE,), {"http.x.example": [ONE]}),
    ],
    ids=["one port", "one port, several places", "two ports", "a port nobody serves", "the first port not served"],
)
def test_each_port_that_is_served_needs_a_route_to_the_endpoints_that_serve_it(ports, endpoints, expected):
    service = LocalService(name="x", ports=ports, endpoints=endpoints)
    routes = routes_of(service, "x.example", "main")
    assert {each.sni: list(each.endpoints) for each in routes} == {
        sni: [_ordered(each) for each in places] for sni, places in expected.items()
    }
    assert {(each.fqdn, each.registry, each.service, each.peers) for each in routes} == {
        ("x.example", "main", "x", ())
    }


def _ordered(endpoint):
    return Endpoint(address=endpoint.address, port=endpoint.port, labels=tuple(sorted(endpoint.labels)))


def test_a_service_without_healthy_endpoints_has_no_routes():
    with pytest.raises(InvalidService, match="no healthy endpoint"):
        routes_of(LocalService(name="x", ports=(HTTP,)), "x.example", "main")


def test_the_routes_have_the_server_names_that_are_published():
    service = LocalService(name="x", ports=(HTTP, GRPC), endpoints=(BOTH,))
    (form,) = decide(service, "main", policy(ALL), NOW).published
    assert [each.sni for each in form.routes] == [each.sni for each in form.service.instances]
    assert [each.port.name for each in form.routes] == [each.id for each in form.service.instances]


@pytest.mark.parametrize(
    ("rule", "gated", "count"),
    [(ALL, True, 1), (ALL, False, 0), ({**ALL, "direct": True}, True, 0), ({**ALL, "direct": True}, False, 0)],
)
def test_only_what_goes_through_a_plugins_gateway_needs_routes(rule, gated, count):
    (form,) = decide(local("x"), "main", policy(rule, gated=gated), NOW).published
    assert len(form.routes) == count


@pytest.mark.parametrize(
    ("gateway", "egress", "gated", "ingress"),
    [
        (None, None, False, None),
        ({"endpoints": ["gw.west.example:8443"], "sans": ["gw.west.example"]}, None, False, INGRESS),
        ({"kind": "memory"}, None, True, None),
        (None, {"kind": "memory"}, False, None),
    ],
    ids=["none", "static", "a plugin's", "out only"],
)
def test_a_policy_is_gated_where_a_plugin_leads_calls_in(gateway, egress, gated, ingress):
    config = Config.model_validate(
        {
            "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
            "identity": {"certificate": "c.pem", "key": "k.pem"},
            "registries": {"main": {"kind": "file"}},
            "gateway": gateway,
            "egress": egress,
        }
    )
    assert (Policy.of(config).gated, Policy.of(config).ingress) == (gated, ingress)
    assert Policy.of(config, INGRESS).ingress == (INGRESS if gated else ingress)


# --- when they are offered ---------------------------------------------------------------------------


def test_catalogs_without_a_plugins_gateway_are_as_they_were():
    bench = Bench(ALL, gated=False).report(local("a"), local("b"))
    assert bench.shown() == ["a.west.example", "b.west.example"]
    assert (bench.gate.wanted(), bench.gate.version) == ((), 0)
    bench.report(registry="second")
    assert bench.publication.ready, "there is no gateway to wait for"


def test_services_follow_the_gateway_and_direct_ones_do_not():
    bench = Bench({"select": {"tags": ["direct"]}, "to": "all", "direct": True}, ALL)
    bench.report(local("a"), local("b", tags=("direct",))).report(registry="second")
    assert bench.shown() == ["b.west.example"]
    assert not bench.publication.ready
    assert bench.settle() == ["a.west.example"]
    assert bench.shown() == ["a.west.example", "b.west.example"]
    assert bench.publication.ready


def test_until_the_ingress_is_known_the_services_are_told_as_problems_and_need_no_route():
    bench = Bench(ALL, ingress=None).report(local("a"))
    assert bench.gate.wanted() == ()
    (problem,) = bench.publication.problems()
    assert "has not said yet how it is reached" in problem.reason
    bench.publication.set_policy(policy(ALL), NOW)
    assert bench.settle() == ["a.west.example"]
    assert bench.publication.problems() == ()


def test_another_ingress_changes_what_is_published_and_no_route():
    bench = Bench(ALL).report(local("a"))
    bench.settle()
    stream = bench.catalog.subscribe(bench.publication.audience("east"))
    before, version = [each.payload for each in stream.take(10)], bench.gate.version
    moved = Ingress(endpoints=(Endpoint(address="other.west.example", port=1),), sans=INGRESS.sans)
    bench.publication.set_policy(policy(ALL, ingress=moved), NOW)
    (after,) = stream.take(10)
    assert (bench.gate.version, bench.shown()) == (version, ["a.west.example"])
    assert after.payload not in before
    assert b"other.west.example" in after.payload.v1alpha1
    stream.close()


def test_the_routes_are_for_the_peers_that_the_rules_name():
    bench = Bench({"select": {"name": "a"}, "to": ["east"]}, {"select": {"name": "b"}, "to": "all"})
    bench.report(local("a"), local("b"))
    peers = {each.sni: each.peers for each in bench.gate.wanted()}
    assert peers == {"a.west.example": ("east",), "b.west.example": ("east", "north")}
    bench.publication.set_policy(policy({"select": {"name": "a"}, "to": ["north"]}, peers=("north",)), NOW)
    assert {each.sni: each.peers for each in bench.gate.wanted()} == {"a.west.example": ("north",)}


def test_what_waits_and_what_is_refused_is_told_of_each_peer():
    bench = Bench(ALL).report(local("a"), local("b"))
    assert bench.publication.waits("east", "a.west.example") == WAITS
    bench.settle("a.west.example")
    assert bench.publication.waits("east", "a.west.example") == "the gateway refuses it: no"
    assert bench.publication.waits("north", "b.west.example") == ""
    assert bench.publication.problems() == (Problem("main", "a", "the gateway refuses it: no"),)
    assert bench.shown() == ["b.west.example"]


def test_the_registry_named_first_gets_a_server_name_that_two_want():
    ports = (HTTP, ServicePort(name="b", port=81))
    both = local("a", ports=ports, labels=("http", "b"))
    bench = Bench(ALL).report(local("b.a"), registry="second").report(both)
    bench.settle()
    assert bench.shown() == ["a.west.example"]
    (problem,) = bench.publication.problems()
    assert (problem.registry, problem.service) == ("second", "b.a")
    assert "'b.a.west.example' is taken by 'a' of registry 'main'" in problem.reason
    bench.publication.observe("main", (Remove("a"),), NOW)
    assert bench.shown() == []
    bench.settle()
    assert bench.shown() == ["b.a.west.example"]


def test_endpoints_that_change_make_another_route_and_leave_the_catalog_alone():
    bench = Bench(ALL).report(local("a"))
    bench.settle()
    catalog, version = bench.catalog.version, bench.gate.version
    moved = LocalService(name="a", ports=local("a").ports, endpoints=(Endpoint(address="10.9.9.9", port=1),))
    bench.publication.observe("main", (Upsert(moved),), NOW)
    assert bench.gate.version > version
    assert bench.catalog.version == catalog
    assert bench.gate.wanted()[0].endpoints == (Endpoint(address="10.9.9.9", port=1),)


def test_a_rehearsal_asks_no_gateway_and_shows_what_would_be_published():
    bench = Bench(ALL).report(local("a"))
    views = bench.publication.preview(policy(ALL), NOW).views
    assert list(views["east"]) == ["a.west.example"]
    assert bench.gate.version == 1
