"""Which service is published to whom, and as what."""

from datetime import UTC, datetime, timedelta

import pytest

from hamlet_core.api import Endpoint, FederatedService, Ingress, Instance, LocalService, Protocol, ServicePort
from hamlet_core.config.model import Config, PublishRule
from hamlet_core.publish.policy import (
    Policy,
    audience_of,
    decide,
    names_of,
    server_names,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INGRESS = Ingress(
    endpoints=(Endpoint(address="gw.west.example", port=8443),), sans=("spiffe://west.example/gateway",)
)
HTTP = ServicePort(name="http", port=80, protocol=Protocol.HTTP)
ADMIN = ServicePort(name="admin", port=9090)


def policy(*rules: dict[str, object], ingress: Ingress | None = INGRESS, peers: tuple[str, ...] = ("east", "north")):
    return Policy(
        mesh="west",
        domain="west.example",
        rules=tuple(PublishRule.model_validate(rule) for rule in rules),
        peers=peers,
        registries=("main", "second"),
        ingress=ingress,
    )


def local(name: str = "orders", **fields: object) -> LocalService:
    given: dict[str, object] = {"ports": (HTTP,), "endpoints": (Endpoint(address="10.0.0.1", port=8080),), **fields}
    return LocalService(name=name, **given)  # type: ignore[arg-type]


def published(service: LocalService, *rules: dict[str, object], **others: object) -> dict[str, str]:
    """Per peer the name under which it gets the service, at noon."""
    decision = decide(service, "main", policy(*rules, **others), NOW)
    assert not decision.problems
    return {peer: form.service.name for form in decision.published for peer in form.to}


def reasons(service: LocalService, *rules: dict[str, object], **others: object) -> list[str]:
    decision = decide(service, "main", policy(*rules, **others), NOW)
    assert not decision.published
    return [problem.reason for problem in decision.problems]


def test_the_configuration_states_the_policy():
    config = Config.model_validate(
        {
            "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
            "identity": {"certificate": "c.pem", "key": "k.pem"},
            "registries": {"second": {"kind": "file"}, "main": {"kind": "file"}},
            "gateway": {"endpoints": ["gw.west.example:8443", "[::1]:443"], "sans": ["URI:spiffe://west.example/gw"]},
            "publish": [{"to": "all"}],
            "peers": {"east": {"bundle": "east.pem", "trust_domain": "east.example"}},
        }
    )
    stated = Policy.of(config)
    assert stated == Policy(
        mesh="west",
        domain="west.example",
        rules=(PublishRule(to="all"),),
        peers=("east",),
        registries=("second", "main"),
        ingress=Ingress(
            endpoints=(Endpoint(address="::1", port=443), Endpoint(address="gw.west.example", port=8443)),
            sans=("spiffe://west.example/gw",),
        ),
    )
    assert Policy.of(config.model_copy(update={"gateway": None})).ingress is None


BOTH = {"east": "orders.west.example", "north": "orders.west.example"}
EAST = {"east": "orders.west.example"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"to": "all"}, BOTH),
        ({"to": ["east"]}, EAST),
        ({"to": []}, {}),
        ({"to": "all", "select": {"name": "ord*"}}, BOTH),
        ({"to": "all", "select": {"name": "ORD*"}}, {}),
        ({"to": "all", "select": {"name": ["cart", "order[rs]"]}}, BOTH),
        ({"to": "all", "select": {"name": "cart"}}, {}),
        ({"to": "all", "select": {"registry": "main"}}, BOTH),
        ({"to": "all", "select": {"registry": "second"}}, {}),
        ({"to": "all", "select": {"tags": ["public", "v2"]}}, BOTH),
        ({"to": "all", "select": {"tags": ["public", "v3"]}}, {}),
        ({"to": "all", "select": {"labels": {"team": "sh?p"}}}, BOTH),
        ({"to": "all", "select": {"labels": {"team": "s"}}}, {}),
        ({"to": "all", "select": {"labels": {"tier": "*"}}}, {}),
        ({"to": "all", "select": {"marked": True}}, EAST),
        ({"to": ["north"], "select": {"marked": True}}, {}),
        ({"to": "all", "from": NOW}, BOTH),
        ({"to": "all", "from": NOW + HOUR}, {}),
        ({"to": "all", "until": NOW + HOUR}, BOTH),
        ({"to": "all", "until": NOW}, {}),
        ({"to": "all", "select": {"name": "ord*", "tags": ["v3"]}}, {}),
    ],
)
def test_a_rule_publishes_what_it_selects_to_whom_it_says(rule, expected):
    service = local(tags=("public", "v2"), labels={"team": "shop"}, publish_to=("east",))
    assert published(service, rule) == expected


def test_a_service_may_ask_to_be_published_to_everyone_a_marked_rule_is_for():
    rule = {"to": ["east"], "select": {"marked": True}}
    assert published(local(publish_to=("*",)), rule) == EAST
    assert published(local(), rule) == {}


def test_without_a_rule_nothing_is_published():
    assert published(local(publish_to=("*",))) == {}


def test_the_first_rule_that_fits_service_and_peer_decides():
    rules = (
        {"to": ["east"], "name": "first.{domain}", "until": NOW},
        {"to": ["east"], "name": "second.{domain}", "select": {"marked": True}},
        {"to": ["east"], "name": "third.{domain}"},
        {"to": "all", "name": "fourth.{domain}"},
    )
    assert published(local(), *rules) == {"east": "third.west.example", "north": "fourth.west.example"}
    assert published(local(publish_to=("north",)), *rules)["east"] == "third.west.example"
    assert published(local(publish_to=("east",)), *rules)["east"] == "second.west.example"


def test_a_rule_without_peers_keeps_what_it_selects_from_everybody():
    keep = {"select": {"name": "orders"}, "to": []}
    everything = {"to": "all"}
    assert published(local("orders"), keep, everything) == {}
    assert set(published(local("stock"), keep, everything)) == {"east", "north"}
    assert set(published(local("orders"), everything, keep)) == {"east", "north"}, "the first rule decides"


def test_keeping_a_service_back_is_another_audience_than_publishing_it():
    rule = {"select": {"name": "orders"}}
    kept = policy({**rule, "to": []})
    given = policy({**rule, "to": ["east"]})
    assert audience_of(kept, "east") != audience_of(given, "east")


def test_a_rule_that_cannot_be_carried_out_does_not_fall_through_to_the_next():
    rules = ({"to": ["east"]}, {"to": "all", "direct": True})
    decision = decide(local(), "main", policy(*rules, ingress=None), NOW)
    assert [(form.to, form.rules) for form in decision.published] == [({"north"}, {"north": 1})]
    (problem,) = decision.problems
    assert (problem.rule, problem.to) == (0, {"east"})
    assert "gateway" in problem.reason


def test_peers_that_get_the_same_share_one_form():
    rules = ({"to": ["north"]}, {"to": ["east"], "name": "orders.west.example"}, {"to": "all", "direct": True})
    decision = decide(local(), "main", policy(*rules, peers=("east", "north", "south")), NOW)
    assert [(dict(form.rules), form.service.sans) for form in decision.published] == [
        ({"north": 0, "east": 1}, INGRESS.sans),
        ({"south": 2}, ()),
    ]


def test_through_the_gateway_a_service_has_the_ingress_and_its_identity():
    service = local(
        ports=(HTTP, ADMIN),
        endpoints=(
            Endpoint(address="10.0.0.1", port=8080, labels=("http",)),
            Endpoint(address="10.0.0.1", port=9090, labels=("admin",)),
        ),
        description="what was bought",
        tags=("v2", "public", "v2"),
        labels={"b": "2", "a": "1"},
        sans=("spiffe://west.example/orders",),
    )
    (form,) = decide(service, "main", policy({"to": "all"}), NOW).published
    fqdn = "orders.west.example"
    assert form.service == FederatedService(
        name=fqdn,
        fqdn=fqdn,
        description="what was bought",
        tags=("public", "v2"),
        labels={"a": "1", "b": "2"},
        sans=INGRESS.sans,
        endpoints=INGRESS.endpoints,
        instances=(
            Instance(id="http", protocol="HTTP", metadata={"SNI": fqdn, "HOSTNAME": fqdn, "PORT": "80"}),
            Instance(id="admin", protocol="TCP", metadata={"SNI": f"admin.{fqdn}", "HOSTNAME": fqdn, "PORT": "9090"}),
        ),
    )
    assert list(form.service.labels) == ["a", "b"]


def test_direct_a_service_has_its_own_addresses_and_identities():
    service = local(
        ports=(HTTP, ADMIN),
        endpoints=(
            Endpoint(address="10.0.0.2", port=8080, labels=("http",)),
            Endpoint(address="10.0.0.1", port=9090, labels=("http", "admin", "http")),
        ),
        sans=("spiffe://west.example/orders", "URI:spiffe://west.example/orders"),
    )
    (form,) = decide(service, "main", policy({"to": "all", "direct": True}, ingress=None), NOW).published
    assert form.service.sans == ("spiffe://west.example/orders",)
    assert form.service.endpoints == (
        Endpoint(address="10.0.0.1", port=9090, labels=("admin", "http")),
        Endpoint(address="10.0.0.2", port=8080, labels=("http",)),
    )
    http, admin = form.service.instances
    assert (http.endpoint_selector, admin.endpoint_selector) == (("http",), ("admin",))
    assert form.service.endpoints_of(admin) == form.service.endpoints[:1]


def test_states_that_differ_in_order_alone_are_published_alike():
    endpoints = tuple(Endpoint(address=f"10.0.0.{n}", port=80, labels=("x", "http")) for n in range(5))
    backwards = tuple(Endpoint(address=e.address, port=e.port, labels=e.labels[::-1]) for e in endpoints[::-1])
    one = local(endpoints=endpoints, tags=("a", "b"), sans=("x", "y"), labels={"a": "1", "b": "2"})
    other = local(endpoints=backwards, tags=("b", "a"), sans=("y", "x"), labels={"b": "2", "a": "1"})
    for rule in ({"to": "all"}, {"to": "all", "direct": True}):
        assert decide(one, "main", policy(rule), NOW) == decide(other, "main", policy(rule), NOW)


@pytest.mark.parametrize("direct", [True, False])
def test_a_port_that_no_healthy_endpoint_serves_is_left_out_and_the_others_keep_their_server_names(direct):
    service = local(ports=(HTTP, ADMIN), endpoints=(Endpoint(address="10.0.0.1", port=9090, labels=("admin",)),))
    (form,) = decide(service, "main", policy({"to": "all", "direct": direct}), NOW).published
    assert [(instance.id, instance.sni) for instance in form.service.instances] == [
        ("admin", "admin.orders.west.example")
    ]


@pytest.mark.parametrize(
    ("service", "rule", "reason"),
    [
        (local(ports=()), {}, "no port"),
        (local(endpoints=()), {}, "no healthy endpoint"),
        (local(endpoints=()), {"direct": True}, "no healthy endpoint"),
        (local(ports=(HTTP, ADMIN)), {}, "with several ports (http, admin)"),
        (local("orders_v2"), {}, "'orders_v2.west.example', which is no domain name"),
        (local("a" * 64), {}, "no domain name"),
        (local(".".join(["a" * 60] * 4)), {}, "no domain name"),
        (local("örders"), {}, "no domain name"),
        (local("orders\n"), {}, "no domain name"),
        (local(), {"name": "{name}"}, "'orders', which is not fully qualified"),
        (local("10.0.0.1"), {"name": "{name}"}, "not fully qualified"),
        (local("orders.shop.svc.cluster.local"), {"name": "{name}"}, "every mesh has"),
        (local("orders.service.consul"), {"name": "{name}"}, "'consul', which every mesh has"),
        (local(), {"name": "{name}.svc.cluster.local"}, "every mesh has"),
        (local("www.bank.example"), {"name": "{name}"}, "outside our domain 'west.example'"),
        (local("www.bank"), {"name": "{name}-example"}, "outside our domain"),
        (local(ports=(ServicePort(name="http", port=0),)), {}, "port 0 is none"),
        (local(endpoints=(Endpoint(address="10.0.0.1", port=70000),)), {"direct": True}, "port 70000 is none"),
        (local(description="\ud800"), {}, "not Unicode"),
    ],
)
def test_what_cannot_be_published_is_a_problem_with_its_reason(service, rule, reason):
    (given,) = reasons(service, {"to": "all", **rule})
    assert reason in given


def test_a_server_name_that_would_be_too_long_is_a_problem():
    long = ".".join(["a" * 60] * 3 + ["a" * 55])
    service = local(
        long,
        ports=(HTTP, ADMIN),
        endpoints=(Endpoint(address="10.0.0.1", port=80, labels=("http", "admin")),),
    )
    (reason,) = reasons(service, {"to": "all"})
    assert "the server name of its port 'admin'" in reason
    assert published(local(long), {"to": ["east"]}) == {"east": f"{long}.west.example"}


def test_without_a_gateway_only_direct_rules_publish():
    (reason,) = reasons(local(), {"to": "all"}, ingress=None)
    assert "no gateway" in reason
    assert published(local(), {"to": "all", "direct": True}, ingress=None) == BOTH


@pytest.mark.parametrize(
    ("name", "template", "expected"),
    [
        ("Orders", "{name}.{domain}", "orders.west.example"),
        ("orders.shop", "{name}.{domain}", "orders.shop.west.example"),
        ("orders", "{name}.{registry}.{mesh}.{domain}", "orders.main.west.west.example"),
        ("orders", "shop.{domain}", "shop.west.example"),
        ("orders.west.example", "{name}", "orders.west.example"),
        ("orders", "{name}.shop.example", "orders.shop.example"),
        ("orders", "{name}.{mesh}.example", "orders.west.example"),
        ("orders", "www.shop.example", "www.shop.example"),
        ("orders.svc.cluster.local", "{name}.{domain}", "orders.svc.cluster.local.west.example"),
        ("orders", "{name}.notconsul", "orders.notconsul"),
    ],
)
def test_the_template_gives_the_name(name, template, expected):
    assert published(local(name), {"to": ["east"], "name": template}) == {"east": expected}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((("http", 80),), ["a.b"]),
        ((("HTTP", 80), ("gRPC_web", 81)), ["a.b", "grpc-web.a.b"]),
        ((("", 80), ("", 81), ("--", 82)), ["a.b", "port.a.b", "port-82.a.b"]),
        ((("x", 1), ("m_n", 2), ("m-n", 3), ("m.n", 3)), ["a.b", "m-n.a.b", "m-n-3.a.b", "m-n-3-2.a.b"]),
        ((("x", 1), ("y" * 80, 2)), ["a.b", "y" * 50 + ".a.b"]),
    ],
)
def test_each_port_has_a_server_name_of_its_own(ports, expected):
    assert list(server_names(tuple(ServicePort(name=name, port=port) for name, port in ports), "a.b")) == expected


def test_peers_with_the_same_rules_share_an_audience_and_others_do_not():
    rules = ({"to": ["east", "north"]}, {"to": ["south"], "name": "x.{domain}"})
    stated = policy(*rules, peers=("east", "north", "south"))
    east, north, south, nobody = (audience_of(stated, peer) for peer in ("east", "north", "south", "nobody"))
    assert east == north
    assert len({east, south, nobody}) == 3


def test_a_rule_that_asks_each_service_for_its_peers_gives_each_peer_an_audience():
    stated = policy({"to": ["east", "north"], "select": {"marked": True}}, peers=("east", "north", "south", "far"))
    assert len({audience_of(stated, peer) for peer in ("east", "north")}) == 2
    assert audience_of(stated, "south") == audience_of(stated, "far")


def test_a_rule_added_for_others_leaves_an_audience_as_it_was():
    before = policy({"to": ["east"]}, peers=("east", "north"))
    after = policy(
        {"to": ["north"], "name": "x.{domain}"}, {"to": ["east", "south"]}, peers=("east", "north", "south")
    )
    assert audience_of(before, "east") == audience_of(after, "east")


def test_a_peer_that_the_policy_does_not_know_sees_nothing_even_of_rules_for_all():
    stated = policy({"to": "all"}, peers=("east",))
    assert audience_of(stated, "stranger") == audience_of(policy(peers=()), "anyone") != audience_of(stated, "east")


def test_the_names_of_a_service_are_those_here_and_those_it_could_have_outside():
    rules = (
        {"to": [], "name": "{name}.shop.example"},
        {"to": "all", "name": "later.{domain}", "from": NOW + HOUR},
        {"to": "all", "name": "cart.{domain}", "select": {"name": "cart"}},
    )
    assert names_of(local("Orders"), "main", policy(*rules)) == {
        "Orders",
        "orders",
        "orders.west.example",
        "orders.shop.example",
        "later.west.example",
    }


@pytest.mark.parametrize(
    ("sans", "published"),
    [
        (("spiffe://west.example/gw",), ("spiffe://west.example/gw",)),
        (("spiffe://west.example/gw", "*.west.example"), ("orders.west.example", "spiffe://west.example/gw")),
        (("gw.west.example", "*.west.example"), ("gw.west.example", "orders.west.example")),
        (("gw.west.example", "*.example"), ("gw.west.example",)),
        (("*.orders.west.example",), ("admin.orders.west.example",)),
    ],
)
def test_a_wildcard_of_the_ingress_is_published_as_the_names_it_covers(sans, published):
    ports = (ServicePort(name="http", port=80), ServicePort(name="admin", port=81))
    endpoint = Endpoint(address="10.0.0.1", port=8080, labels=("http", "admin"))
    service = LocalService(name="orders", ports=ports, endpoints=(endpoint,))
    ingress = Ingress(endpoints=(Endpoint(address="192.0.2.1", port=443),), sans=sans)
    decision = decide(service, "main", policy({"to": "all"}, ingress=ingress), NOW)
    assert decision.published[0].service.sans == published


def test_an_ingress_whose_names_cover_nothing_of_a_service_publishes_none_of_it():
    ingress = Ingress(endpoints=(Endpoint(address="192.0.2.1", port=443),), sans=("*.other.example",))
    service = LocalService(
        name="orders",
        ports=(ServicePort(name="http", port=80),),
        endpoints=(Endpoint(address="10.0.0.1", port=8080),),
    )
    decision = decide(service, "main", policy({"to": "all"}, ingress=ingress), NOW)
    assert not decision.published
    assert "covers none of orders.west.example" in decision.problems[0].reason
