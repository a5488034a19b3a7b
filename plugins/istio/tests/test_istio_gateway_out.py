"""Calls out, each half alone, and faults of the API server, on a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hamlet_core.api import GatewayUnavailable, ImportKey, Refused, Route
from tests.backends.istio_gateway import SECRETS, authorities, everything, imported, names, pems, published, secret_of
from tests.backends.proxy import HANG_UP, FaultProxy

pytestmark = pytest.mark.xdist_group("kubernetes")


def test_secrets_for_calls_out_follow_the_peers_that_are_called_and_hold_each_ones_bundle_alone(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east", "north"))
    stock, mail = imported("stock"), imported("mail", "north")
    answers = hooks.gateway_import(routes=[stock, mail], keep=())
    assert all(isinstance(each, Route) and not each.originates_tls for each in answers.values())
    assert answers[stock.key].settings["credential-name"] == "hamlet-egress-east"
    found = world.all(SECRETS, world.callers)
    assert {name: authorities(each) for name, each in found.items()} == {
        "hamlet-egress-east": pems(world, "east"),
        "hamlet-egress-north": pems(world, "north"),
    }
    hooks.gateway_import(routes=[], keep=None)
    assert set(world.all(SECRETS, world.callers)) == set(found), "what stands is not known: nothing is taken away"
    hooks.gateway_import(routes=[stock], keep=[ImportKey("north", "mail.north.example")])
    assert set(world.all(SECRETS, world.callers)) == set(found)
    hooks.gateway_import(routes=[stock], keep=())
    assert set(world.all(SECRETS, world.callers)) == {"hamlet-egress-east"}


def test_a_secret_of_somebody_else_is_left_and_the_peers_imports_refused(
    world: Any, open_gateway: Callable[..., Any]
) -> None:
    path = SECRETS.format(namespace=world.callers)
    world.kubernetes.put(path, "hamlet-egress-east", {"data": {"a": "Yg=="}})
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east", "north"))
    stock, mail = imported("stock"), imported("mail", "north")
    answers = hooks.gateway_import(routes=[stock, mail], keep=())
    assert isinstance(answers[stock.key], Refused)
    assert "hamlet-egress-east is in the way" in answers[stock.key].reason
    assert isinstance(answers[mail.key], Route)
    assert world.all(SECRETS, world.callers)["hamlet-egress-east"]["data"] == {"a": "Yg=="}


def test_secrets_that_somebody_else_writes_are_only_named(world: Any, open_gateway: Callable[..., Any]) -> None:
    hooks = open_gateway(
        **world.options(egress={"consumers": {world.callers: {"mesh": "out"}}, "write_secrets": False})
    )
    hooks.gateway_trust(trust=world.trust("east"))
    answers = hooks.gateway_import(routes=[imported("stock")], keep=())
    assert [each.settings["credential-name"] for each in answers.values()] == ["hamlet-egress-east"]
    assert world.all(SECRETS, world.callers) == {}


@pytest.mark.parametrize("half", ["ingress", "egress"])
def test_each_half_works_alone_and_the_other_is_refused(
    world: Any, open_gateway: Callable[..., Any], half: str
) -> None:
    options = world.options()
    options.pop("egress" if half == "ingress" else "ingress")
    hooks = open_gateway(**options)
    hooks.gateway_trust(trust=world.trust("east"))
    refusals = hooks.gateway_publish(routes=[published(world.add_service("orders"))])
    answers = hooks.gateway_import(routes=[imported("stock")], keep=())
    assert bool(refusals) == (half == "egress")
    assert [isinstance(each, Refused) for each in answers.values()] == [half == "ingress"]


def test_a_refusal_of_the_server_that_may_pass_leaves_what_stands_and_is_mended_by_the_next_call(
    world: Any, own_kubernetes: Any, open_gateway: Callable[..., Any]
) -> None:
    proxy = FaultProxy(own_kubernetes.server, str(own_kubernetes.ca))
    reached = {"kubeconfig": None, "server": proxy.address, "token": "admin-token", "retry": "0.1s"}
    hooks = open_gateway(**world.options(**reached))
    hooks.gateway_trust(trust=world.trust("east"))
    orders, mail = published(world.add_service("orders")), published(world.add_service("mail"))
    hooks.gateway_publish(routes=[orders])
    proxy.fail(lambda method, path: method == "PATCH" and "/gateways/mail" in path, 500)
    with pytest.raises(GatewayUnavailable):
        hooks.gateway_publish(routes=[orders, mail])
    assert all("orders-west-example" in each for each in names(world))
    proxy.heal()
    assert hooks.gateway_publish(routes=[orders, mail]) == {}
    assert names(world) == [{"orders-west-example", "mail-west-example"}] * 3
    proxy.close()


@pytest.mark.parametrize("hook", ["gateway_publish", "gateway_import", "gateway_trust"])
def test_an_api_server_out_of_reach_is_said_as_that(
    world: Any, own_kubernetes: Any, open_gateway: Callable[..., Any], hook: str
) -> None:
    proxy = FaultProxy(own_kubernetes.server, str(own_kubernetes.ca))
    reached = {"kubeconfig": None, "server": proxy.address, "token": "admin-token", "retry": "0.1s"}
    hooks = open_gateway(**world.options(**reached))
    hooks.gateway_trust(trust=world.trust("east"))
    orders, mail = published(world.add_service("orders")), published(world.add_service("mail"))
    hooks.gateway_publish(routes=[orders])
    before = everything(world)
    proxy.fail(lambda *_: True, HANG_UP)
    calls: dict[str, dict[str, Any]] = {
        "gateway_publish": {"routes": [orders, mail]},
        "gateway_import": {"routes": [imported("stock")], "keep": ()},
        "gateway_trust": {"trust": world.trust("east")},
    }
    with pytest.raises(GatewayUnavailable, match="does not answer"):
        getattr(hooks, hook)(**calls[hook])
    assert everything(world) == before
    proxy.heal()
    getattr(hooks, hook)(**calls[hook])
    assert everything(world) != before or world.all(SECRETS, world.callers)
    proxy.close()


def test_a_bundle_that_is_none_shuts_out_its_peer_alone(world: Any, open_gateway: Callable[..., Any]) -> None:
    hooks = open_gateway(**world.options())
    trust = world.trust("east", "north")
    spoiled = tuple(replace(each, bundle="no certificate") if each.peer == "east" else each for each in trust.peers)
    hooks.gateway_trust(trust=replace(trust, peers=spoiled))
    orders, mail = published(world.add_service("orders"), "east", "north"), published(world.add_service("mail"))
    assert hooks.gateway_publish(routes=[orders, mail]).keys() == {mail.sni}
    assert authorities(secret_of(world, "orders-west-example")) == pems(world, "north")
    with pytest.raises(GatewayUnavailable, match="certificate cannot be used"):
        hooks.gateway_trust(trust=replace(trust, key=world.trust().key))
