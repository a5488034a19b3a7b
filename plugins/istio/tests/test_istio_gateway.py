"""Calls in on a real API server: what is published stands there, nothing else, and others stay."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio.gateway import IstioGateway
from hamlet_istio.gateway_options import IstioGatewayOptions

from hamlet_core.api import AdapterContext
from tests.backends.crd_rules import complaints
from tests.backends.istio_gateway import (
    ENTRIES,
    GATEWAYS,
    OF_A_ROUTE,
    POLICIES,
    SECRETS,
    WAYS,
    authorities,
    everything,
    imported,
    names,
    pems,
    published,
    secret_of,
    text_of,
)

pytestmark = pytest.mark.xdist_group("kubernetes")


def requests(hooks: Any) -> dict[str, int]:
    return dict(hooks.gateway_trust.get_hookimpls()[0].plugin.connection.requests)


def writes(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(after.get(verb, 0) - before.get(verb, 0) for verb in ("PATCH", "DELETE", "PUT", "POST"))


def test_what_is_published_stands_with_all_that_belongs_to_it_and_goes_with_it(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east", "north"))
    orders, mail = world.add_service("orders"), world.add_service("mail", 25)
    routes = [published(orders, "east", "north"), published(mail, "north", port=25)]
    assert hooks.gateway_publish(routes=routes) == {}
    assert names(world) == [{"orders-west-example", "mail-west-example"}] * 3
    way = world.all(WAYS)["mail-west-example"]["spec"]["tcp"][0]["route"][0]["destination"]
    assert way == {"host": f"mail.{world.namespace}.svc.cluster.local", "port": {"number": 25}}
    assert authorities(secret_of(world, "orders-west-example")) == pems(world, "east", "north")
    assert authorities(secret_of(world, "mail-west-example")) == pems(world, "north")
    for collection in OF_A_ROUTE:
        for thing in world.all(collection).values():
            assert complaints(thing) == []
            assert thing["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "hamlet"
            assert {each["manager"] for each in thing["metadata"]["managedFields"]} == {"hamlet"}
    assert hooks.gateway_publish(routes=routes[:1]) == {}
    assert names(world) == [{"orders-west-example"}] * 3
    assert len(world.all(SECRETS)) == 1
    assert hooks.gateway_publish(routes=[]) == {}
    assert names(world) == [set()] * 3
    assert world.all(SECRETS) == {}


def test_the_same_again_writes_nothing_restarts_included(world: Any, open_gateway: Callable[..., Any]) -> None:
    first = open_gateway(**world.options())
    trust, routes = (
        world.trust("east"),
        [published(world.add_service("orders")), published(world.add_service("mail"))],
    )
    first.gateway_trust(trust=trust)
    first.gateway_publish(routes=routes)
    first.gateway_import(routes=[imported("stock")], keep=())
    before, counted = everything(world), requests(first)
    first.gateway_publish(routes=routes)
    assert requests(first) == counted, "nothing needs to be asked"
    again = open_gateway(**world.options())
    again.gateway_trust(trust=trust)
    again.gateway_publish(routes=routes)
    again.gateway_import(routes=[imported("stock")], keep=())
    assert writes({}, requests(again)) == 0
    assert everything(world) == before


def test_a_service_more_costs_the_same_with_any_number_of_others(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    services = [world.add_service(f"orders-{number}") for number in range(40)]
    routes = [published(each) for each in services]
    hooks.gateway_publish(routes=routes[:38])
    costs = []
    for count in (39, 40):
        before = requests(hooks)
        hooks.gateway_publish(routes=routes[:count])
        costs.append(sum(requests(hooks).values()) - sum(before.values()))
    assert costs[0] == costs[1] <= 7, "its Service, and a look and a write of three objects"


def test_a_change_of_audience_changes_the_policy_and_the_secret_and_leaves_no_old_one(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east", "north"))
    orders = world.add_service("orders")
    for peers in (("east",), ("east", "north"), ("north",)):
        hooks.gateway_publish(routes=[published(orders, *peers)])
        source = world.all(POLICIES)["orders-west-example"]["spec"]["rules"][0]["from"][0]["source"]
        assert source["notPrincipals"] == [f"{peer}.example/*" for peer in peers]
        assert authorities(secret_of(world, "orders-west-example")) == pems(world, *peers)
        assert len(world.all(SECRETS)) == 1


def test_trust_that_changes_is_in_every_secret_when_the_call_returns_restarts_included(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east", "north"))
    route = published(world.add_service("orders"), "east", "north")
    hooks.gateway_publish(routes=[route])
    hooks.gateway_import(routes=[imported("stock"), imported("mail", "north")], keep=())
    assert set(world.all(SECRETS, world.callers)) == {"hamlet-egress-east", "hamlet-egress-north"}
    leaf = text_of(secret_of(world, "orders-west-example"), "tls.crt")

    hooks.gateway_trust(trust=world.trust("north"))  # another leaf, and `east` is gone
    assert authorities(secret_of(world, "orders-west-example")) == pems(world, "north")
    assert text_of(secret_of(world, "orders-west-example"), "tls.crt") != leaf
    source = world.all(POLICIES)["orders-west-example"]["spec"]["rules"][0]["from"][0]["source"]
    assert source["notPrincipals"] == ["north.example/*"]
    assert set(world.all(SECRETS, world.callers)) == {"hamlet-egress-north"}

    restarted = open_gateway(**world.options())
    restarted.gateway_trust(trust=world.trust())
    assert world.all(SECRETS) == {}, "nobody could be verified by it, whatever else stands"
    assert world.all(SECRETS, world.callers) == {}
    refusals = restarted.gateway_publish(routes=[route])
    assert "none has a SPIFFE trust domain and a bundle" in refusals[route.sni].reason
    assert names(world) == [set()] * 3


def test_a_peer_that_comes_back_is_let_in_again_without_another_publication(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    hooks.gateway_publish(routes=[published(world.add_service("orders"), "east", "north")])
    assert authorities(secret_of(world, "orders-west-example")) == pems(world, "east")
    hooks.gateway_trust(trust=world.trust("east", "north"))
    assert authorities(secret_of(world, "orders-west-example")) == pems(world, "east", "north")


@pytest.mark.parametrize(
    ("collection", "body"),
    [
        (
            POLICIES,
            {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": {"action": "ALLOW"}},
        ),
        (WAYS, {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": {"hosts": ["x.example"]}}),
        (GATEWAYS, {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": {"selector": {"a": "b"}}}),
    ],
    ids=["policy", "way", "door"],
)
def test_what_somebody_else_has_under_a_name_of_ours_is_named_and_left_and_nothing_of_the_route_stands(
    world: Any, open_gateway: Callable[..., Any], collection: str, body: Any
) -> None:
    world.kubernetes.put(collection.format(namespace=world.namespace), "orders-west-example", body)
    before = world.all(collection)
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    orders, mail = published(world.add_service("orders")), published(world.add_service("mail"))
    refusals = hooks.gateway_publish(routes=[orders, mail])
    assert refusals.keys() == {orders.sni}
    assert f"{body['kind']} {world.namespace}/orders-west-example is in the way" in refusals[orders.sni].reason
    assert {name: each for name, each in world.all(collection).items() if name in before} == before
    assert sum("orders-west-example" in each for each in names(world)) == 1, "theirs alone"
    assert all("mail-west-example" in each for each in names(world))
    assert hooks.gateway_publish(routes=[]) == {}
    assert world.all(collection) == before


def test_a_host_that_a_gateway_of_somebody_else_serves_is_refused_and_that_gateway_named(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*/orders.west.example"]}
    spec = {"selector": {"istio": "ingress"}, "servers": [server]}
    body = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": spec}
    world.kubernetes.put(GATEWAYS.format(namespace=world.namespace), "shopfront", body)
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    refusals = hooks.gateway_publish(routes=[published(world.add_service("orders"))])
    assert f"Gateway {world.namespace}/shopfront serves orders.west.example" in refusals["orders.west.example"].reason
    assert names(world) == [set(), set(), {"shopfront"}]


def test_an_edit_or_a_loss_is_mended_by_the_next_start(world: Any, open_gateway: Callable[..., Any]) -> None:
    options = world.options(force_conflicts=True)
    first = open_gateway(**options)
    trust, routes = world.trust("east"), [published(world.add_service("orders"))]
    first.gateway_trust(trust=trust)
    first.gateway_publish(routes=routes)
    wanted = [world.all(each)["orders-west-example"]["spec"] for each in OF_A_ROUTE]
    world.patch(POLICIES, "orders-west-example", {"spec": {"action": "ALLOW"}})
    world.kubernetes.do("DELETE", f"{WAYS.format(namespace=world.namespace)}/orders-west-example")
    credential = wanted[2]["servers"][0]["tls"]["credentialName"]
    world.patch(SECRETS, credential, {"data": {"ca.crt": base64.b64encode(b"x").decode()}})
    again = open_gateway(**options)
    again.gateway_trust(trust=trust)
    assert again.gateway_publish(routes=routes) == {}
    assert [world.all(each)["orders-west-example"]["spec"] for each in OF_A_ROUTE] == wanted
    assert authorities(world.all(SECRETS)[credential]) == pems(world, "east")


def test_an_edit_that_is_not_to_be_forced_is_refused_with_who_made_it_and_what_it_opened_is_shut(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    first = open_gateway(**world.options())
    trust, routes = world.trust("east"), [published(world.add_service("orders"))]
    first.gateway_trust(trust=trust)
    first.gateway_publish(routes=routes)
    path = f"{POLICIES.format(namespace=world.namespace)}/orders-west-example?fieldManager=somebody"
    body = {"spec": {"action": "ALLOW"}}
    world.kubernetes.do("PATCH", path, body, kind="application/merge-patch+json")
    again = open_gateway(**world.options())
    again.gateway_trust(trust=trust)
    refusals = again.gateway_publish(routes=routes)
    assert "managed by somebody" in refusals["orders.west.example"].reason
    assert names(world) == [set()] * 3


def test_two_agents_at_one_ingress_leave_each_others_routes_and_secrets_alone(
    world: Any, open_gateway: Callable[..., Any], tmp_path: Path
) -> None:
    mine = open_gateway(**world.options())
    south = AdapterContext(
        name="gateway", mesh="south", domain="south.example", trust_domain="south.example", directory=tmp_path
    )
    other = IstioGateway(IstioGatewayOptions(**world.options()), south)
    trust = world.trust("east")
    mine.gateway_trust(trust=trust)
    other.gateway_trust(trust)
    orders, mail = published(world.add_service("orders")), published(world.add_service("mail"))
    assert mine.gateway_publish(routes=[orders]) == {}
    refused = other.gateway_publish([mail, orders])
    assert refused.keys() == {orders.sni}, "the server name is taken"
    assert names(world) == [{"orders-west-example", "mail-west-example"}] * 3
    assert len(world.all(SECRETS)) == 2
    other.gateway_trust(world.trust())
    assert mine.gateway_publish(routes=[orders]) == {}
    assert other.gateway_publish([]) == {}
    assert names(world) == [{"orders-west-example"}] * 3
    assert len(world.all(SECRETS)) == 1
    other.gateway_close()


def test_a_virtual_machine_is_led_to_by_its_host_and_what_is_not_of_the_cluster_is_refused(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    spec = {"hosts": ["vm.internal"], "location": "MESH_INTERNAL", "ports": [{"number": 8080, "name": "http"}]}
    body = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec}
    world.kubernetes.put(ENTRIES.format(namespace=world.namespace), "vm", body)
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    machine = published(f"vm.{world.namespace}", sni="vm.west.example")
    strange = published("billing", sni="billing.west.example")
    gone = published(f"gone.{world.namespace}", sni="gone.west.example")
    refusals = hooks.gateway_publish(routes=[machine, strange, gone])
    assert refusals.keys() == {strange.sni, gone.sni}
    assert all("no Service and no ServiceEntry of this cluster" in each.reason for each in refusals.values())
    destination = world.all(WAYS)["vm-west-example"]["spec"]["tcp"][0]["route"][0]["destination"]
    assert destination["host"] == "vm.internal"
