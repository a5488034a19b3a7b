"""How other meshes reach the ingress: a table of what a Service and nodes say, and a real one as it changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hamlet_istio import ingress_address
from hamlet_istio.gateway_options import IngressOptions
from hamlet_istio.ingress_address import NODES_TOLD, endpoints_of

from hamlet_core.api import GatewayUnavailable, Ingress, Severity, Stop
from tests.backends.istio_gateway import SERVICES

pytestmark = pytest.mark.xdist_group("kubernetes")
NODES = "/api/v1/nodes"
PATIENCE = 60.0


def service(*addresses: dict[str, str], node_port: int | None = 30443, port: int = 443) -> dict[str, Any]:
    ports = {"name": "https", "port": port, **({"nodePort": node_port} if node_port else {})}
    return {"spec": {"ports": [ports]}, "status": {"loadBalancer": {"ingress": list(addresses)}}}


def node(ready: str = "True", **addresses: str) -> dict[str, Any]:
    found = [{"type": kind, "address": address} for kind, address in addresses.items()]
    return {"status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": found}}


A_NAME = {"hostname": "in.west.example"}
AN_ADDRESS = {"ip": "203.0.113.9"}
NODE_PORT = {"address": "node_port"}


@pytest.mark.parametrize(
    ("options", "found", "nodes", "places"),
    [
        ({}, service(AN_ADDRESS), {}, [("203.0.113.9", 443)]),
        ({}, service(A_NAME), {}, [("in.west.example", 443)]),
        ({}, service({**AN_ADDRESS, **A_NAME}), {}, [("203.0.113.9", 443)]),
        ({}, service(A_NAME, AN_ADDRESS), {}, [("203.0.113.9", 443), ("in.west.example", 443)]),
        ({"port": 15443}, service(AN_ADDRESS, port=15443), {}, [("203.0.113.9", 15443)]),
        (
            {"advertise": ["203.0.113.1:1443", "[2001:db8::1]:443"]},
            None,
            {},
            [("203.0.113.1", 1443), ("2001:db8::1", 443)],
        ),
        (
            NODE_PORT,
            service(),
            {
                "a": node(InternalIP="10.0.0.1", ExternalIP="203.0.113.1"),
                "b": node("False", InternalIP="10.0.0.2"),
                "c": node(Hostname="c", InternalIP="10.0.0.3"),
                "d": node("Unknown", InternalIP="10.0.0.4"),
            },
            [("203.0.113.1", 30443), ("10.0.0.3", 30443)],
        ),
    ],
    ids=["an address", "a name", "both of one", "two", "another port", "configured", "nodes"],
)
def test_the_address_is_what_the_cluster_says(
    options: dict[str, Any], found: Any, nodes: dict[str, Any], places: list[tuple[str, int]]
) -> None:
    endpoints = endpoints_of(found, nodes, IngressOptions(**options))
    assert not isinstance(endpoints, str)
    assert [(each.address, each.port) for each in endpoints] == places


@pytest.mark.parametrize(
    ("options", "found", "nodes", "says"),
    [
        ({}, None, {}, "Service istio-ingress/istio-ingress is not there"),
        ({}, service(), {}, "has no address yet"),
        ({"port": 444}, service(AN_ADDRESS), {}, r"has no port 444 \(443\)"),
        (NODE_PORT, service(node_port=None), {"a": node(InternalIP="10.0.0.1")}, "no node port"),
        (
            NODE_PORT,
            service(),
            {"a": node("False", InternalIP="10.0.0.1"), "b": node(Hostname="b")},
            "no node is ready",
        ),
    ],
    ids=["no service", "no address", "no such port", "no node port", "no node"],
)
def test_an_address_that_is_not_known_says_why(
    options: dict[str, Any], found: Any, nodes: dict[str, Any], says: str
) -> None:
    reason = endpoints_of(found, nodes, IngressOptions(**options))
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(reason)


def test_a_large_cluster_tells_a_few_of_its_nodes() -> None:
    nodes = {f"n{number:03}": node(InternalIP=f"10.0.0.{number}") for number in range(200)}
    found = endpoints_of(service(), nodes, IngressOptions(address="node_port"))
    assert [each.address for each in found if not isinstance(each, str)] == [f"10.0.0.{n}" for n in range(NODES_TOLD)]


class Following:
    """What a gateway says of its ingress, as it says it."""

    def __init__(self, hooks: Any) -> None:
        self.told: list[Ingress | None] = []
        self.error: BaseException | None = None
        self.stop = Stop()
        self._thread = threading.Thread(target=self._run, args=(hooks,), daemon=True)
        self._thread.start()

    def _run(self, hooks: Any) -> None:
        try:
            for each in hooks.gateway_ingress(stop=self.stop):
                self.told.append(each)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def until(self, good: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not good():
            assert time.monotonic() < deadline, (self.told, self.error)
            time.sleep(0.02)

    def addresses(self) -> list[str]:
        """Those it told last."""
        last = self.told[-1] if self.told else None
        return [each.address for each in last.endpoints] if last else []

    def end(self) -> None:
        self.stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def followed() -> Iterator[Callable[[Any], Following]]:
    begun: list[Following] = []

    def follow(hooks: Any) -> Following:
        begun.append(Following(hooks))
        return begun[-1]

    yield follow
    for each in begun:
        each.end()


def test_the_address_of_the_load_balancer_is_told_and_followed(
    world: Any, open_gateway: Callable[..., Any], followed: Callable[[Any], Following]
) -> None:
    world.add_ingress()
    world.assign(AN_ADDRESS)
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    following = followed(hooks)
    following.until(lambda: following.addresses() == ["203.0.113.9"])
    assert following.told[0].sans == ("spiffe://west.example/ingress", "*.west.example")  # type: ignore[union-attr]
    world.assign(A_NAME)
    following.until(lambda: following.addresses() == ["in.west.example"])
    world.patch(SERVICES, "istio-ingress", {"metadata": {"labels": {"some": "thing"}}})
    world.assign(A_NAME, AN_ADDRESS)
    following.until(lambda: following.addresses() == ["203.0.113.9", "in.west.example"])
    assert len(following.told) == 3, "what does not concern it is not told"


def test_a_new_name_in_the_certificate_is_told(
    world: Any, open_gateway: Callable[..., Any], followed: Callable[[Any], Following]
) -> None:
    hooks = open_gateway(**world.options(ingress={"namespace": world.namespace, "advertise": ["203.0.113.1:443"]}))
    trust = world.trust("east")
    hooks.gateway_trust(trust=trust)
    following = followed(hooks)
    following.until(lambda: len(following.told) == 1)
    leaf = world.mint("west").leaf("spiffe://west.example/other")
    hooks.gateway_trust(trust=replace(trust, certificate=leaf.pem.decode(), key=leaf.key_pem.decode()))
    following.until(lambda: len(following.told) == 2)
    assert following.told[-1].sans == ("spiffe://west.example/other",)  # type: ignore[union-attr]


def test_names_that_are_configured_are_told_instead_of_those_of_the_certificate(
    world: Any, open_gateway: Callable[..., Any], followed: Callable[[Any], Following]
) -> None:
    given = {"namespace": world.namespace, "advertise": ["203.0.113.1:443"], "sans": ["spiffe://west.example/edge"]}
    hooks = open_gateway(**world.options(ingress=given))
    following = followed(hooks)
    following.until(lambda: len(following.told) == 1)
    assert following.told[-1].sans == ("spiffe://west.example/edge",)  # type: ignore[union-attr]


@pytest.mark.parametrize("before", [False, True], ids=["not assigned yet", "taken away"])
def test_no_address_is_an_outage_and_ends_when_one_is_assigned(
    world: Any,
    open_gateway: Callable[..., Any],
    followed: Callable[[Any], Following],
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:
    monkeypatch.setattr(ingress_address, "UNKNOWN_FOR", 0.5)
    world.add_ingress()
    hooks = open_gateway(**world.options())
    hooks.gateway_trust(trust=world.trust("east"))
    if before:
        world.assign(AN_ADDRESS)
    following = followed(hooks)
    if before:
        following.until(lambda: bool(following.told))
        world.assign()
    following.until(lambda: following.error is not None)
    assert isinstance(following.error, GatewayUnavailable)
    assert "has no address yet" in str(following.error)
    monkeypatch.setattr(ingress_address, "UNKNOWN_FOR", PATIENCE)
    later = followed(hooks)
    world.assign(A_NAME)
    later.until(lambda: later.addresses() == ["in.west.example"])


def test_nodes_that_become_ready_are_told_with_the_node_port(
    world: Any,
    open_gateway: Callable[..., Any],
    followed: Callable[[Any], Following],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress_address, "UNKNOWN_FOR", PATIENCE)
    world.add_ingress("NodePort")
    name = f"{world.namespace}-a"
    world.kubernetes.put(NODES, name, {})
    try:
        hooks = open_gateway(**world.options(ingress={"namespace": world.namespace, "address": "node_port"}))
        hooks.gateway_trust(trust=world.trust("east"))
        following = followed(hooks)
        status = node(InternalIP="10.9.8.7")
        world.kubernetes.do("PATCH", f"{NODES}/{name}/status", status, kind="application/merge-patch+json")
        following.until(lambda: following.addresses() == ["10.9.8.7"])
        wanted = world.all(SERVICES)["istio-ingress"]["spec"]["ports"][0]["nodePort"]
        assert [each.port for each in following.told[-1].endpoints] == [wanted]  # type: ignore[union-attr]
    finally:
        world.kubernetes.do("DELETE", f"{NODES}/{name}")


def test_a_gateway_without_an_ingress_says_so_and_waits(
    world: Any, open_gateway: Callable[..., Any], followed: Callable[[Any], Following]
) -> None:
    options = world.options()
    del options["ingress"]
    following = followed(open_gateway(**options))
    following.until(lambda: following.told == [None])
    following.end()
    assert following.error is None


@pytest.mark.parametrize(
    ("kind", "addresses", "severity", "says"),
    [
        ("LoadBalancer", [AN_ADDRESS], Severity.OK, "reached at 203.0.113.9:443"),
        ("LoadBalancer", [], Severity.WARNING, "has no address yet"),
        ("", [], Severity.ERROR, "is not there"),
    ],
    ids=["well", "no address", "no service"],
)
def test_a_check_says_how_the_service_is(
    world: Any, open_gateway: Callable[..., Any], kind: str, addresses: list[Any], severity: Severity, says: str
) -> None:
    if kind:
        world.add_ingress(kind)
        world.assign(*addresses)
    found = {each.subject: each for each in open_gateway(**world.options()).gateway_check()}
    finding = found.pop(f"Service {world.namespace}/istio-ingress")
    assert finding.severity is severity
    assert says in finding.message
    assert {each.severity for each in found.values()} == {Severity.OK}


def test_a_check_doubts_a_selector_that_is_not_the_services(world: Any, open_gateway: Callable[..., Any]) -> None:
    world.add_ingress()
    world.assign(AN_ADDRESS)
    given = {"namespace": world.namespace, "selector": {"app": "other"}}
    found = {each.subject: each for each in open_gateway(**world.options(ingress=given)).gateway_check()}
    assert found[f"Service {world.namespace}/istio-ingress selector"].severity is Severity.WARNING
