"""What becomes a local service, how changes are followed, and what each costs in requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hamlet_consul.follow import next_index

from hamlet_core.api import Endpoint, LocalService, Protocol, Upsert
from hamlet_core.api.testing import Watching, imported_service
from tests.backends.consul import Consul
from tests.support.processes import wait_until

WITHIN = 30.0
Start = Callable[..., Any]


def endpoints(service: LocalService) -> set[tuple[str, int]]:
    return {(endpoint.address, endpoint.port) for endpoint in service.endpoints}


def seen(watching: Watching, name: str) -> LocalService:
    return watching.until(lambda state: name in state, WITHIN)[name]


# What becomes a service


def test_tags_meta_port_and_address_are_taken_over(consul: Consul, start_registry: Start) -> None:
    meta = {"team": "shop", "description": "Takes orders", "protocol": "grpc"}
    consul.register("orders", Address="10.1.1.1", Port=9090, Tags=["v1", "a"], Meta=meta)
    assert seen(start_registry(consul).watch(), "orders") == LocalService(
        name="orders",
        ports=start_ports("grpc", 9090, Protocol.GRPC),
        endpoints=(Endpoint(address="10.1.1.1", port=9090),),
        description="Takes orders",
        tags=("a", "v1"),
        labels={"team": "shop", "protocol": "grpc"},
    )


def start_ports(name: str, port: int, protocol: Protocol) -> Any:
    from hamlet_core.api import ServicePort

    return (ServicePort(name=name, port=port, protocol=protocol),)


def test_an_instance_without_an_address_has_its_nodes(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    assert endpoints(seen(start_registry(consul).watch(), "orders")) == {("10.0.0.1", 8080)}


def test_instances_of_several_nodes_are_one_service(consul: Consul, start_registry: Start) -> None:
    consul.register("orders", node="a", Address="10.1.1.1", Meta={"team": "shop", "zone": "1"}, Tags=["v1"])
    consul.register("orders", node="b", Address="10.1.1.2", Meta={"team": "shop", "zone": "2"}, Tags=["v2"])
    service = seen(start_registry(consul).watch(), "orders")
    assert endpoints(service) == {("10.1.1.1", 8080), ("10.1.1.2", 8080)}
    assert service.tags == ("v1", "v2")
    assert service.labels == {"team": "shop"}, "only what all instances agree on"


def test_what_is_no_service_of_the_mesh_is_left_out(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    consul.register("orders-sidecar-proxy", Kind="connect-proxy", Proxy={"DestinationServiceName": "orders"})
    consul.register("gateway", Kind="mesh-gateway")
    consul.register("batch", Port=0)
    assert set(start_registry(consul).watch().state) == {"orders"}


@pytest.mark.parametrize(
    ("service", "defaults", "protocol"),
    [
        ({}, None, Protocol.TCP),
        ({}, "http", Protocol.HTTP),
        ({}, "grpc", Protocol.GRPC),
        ({"Meta": {"protocol": "http2"}}, "http", Protocol.HTTP2),
        ({"Tags": ["protocol=mongo"]}, None, Protocol.MONGO),
        ({"Meta": {"protocol": "gopher"}}, "http", Protocol.HTTP),
    ],
)
def test_the_protocol_is_the_services_own_word_then_the_defaults(
    consul: Consul, start_registry: Start, service: dict[str, Any], defaults: str | None, protocol: Protocol
) -> None:
    if defaults:
        consul.do("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "orders", "Protocol": defaults})
    consul.register("orders", **service)
    (port,) = seen(start_registry(consul).watch(), "orders").ports
    assert port.protocol is protocol


def test_service_defaults_are_followed(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    watching = start_registry(consul).watch()
    consul.do("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "orders", "Protocol": "http"})
    watching.until(lambda state: state["orders"].ports[0].protocol is Protocol.HTTP, WITHIN)
    consul.do("DELETE", "/v1/config/service-defaults/orders")
    watching.until(lambda state: state["orders"].ports[0].protocol is Protocol.TCP, WITHIN)


@pytest.mark.parametrize(
    "service", [{"Meta": {"hamlet-publish": "east, north"}}, {"Tags": ["hamlet-publish=north,east"]}]
)
def test_a_service_can_ask_to_be_published(consul: Consul, start_registry: Start, service: dict[str, Any]) -> None:
    consul.register("orders", **service)
    found = seen(start_registry(consul).watch(), "orders")
    assert found.publish_to == ("east", "north")
    assert (found.tags, found.labels) == ((), {}), "the request itself is not told to others"


def test_a_service_of_connect_has_its_identity_as_san(consul: Consul, start_registry: Start) -> None:
    consul.register("plain")
    consul.register("orders")
    consul.register("native", Connect={"Native": True})
    watching = start_registry(consul).watch()
    assert seen(watching, "orders").sans == ()
    consul.register("orders-sidecar-proxy", Kind="connect-proxy", Proxy={"DestinationServiceName": "orders"})
    state = watching.until(lambda state: state["orders"].sans, WITHIN)
    domain = consul.do("GET", "/v1/connect/ca/roots")["TrustDomain"]
    assert state["orders"].sans == (f"spiffe://{domain}/ns/default/dc/{consul.datacenter}/svc/orders",)
    assert state["native"].sans[0].endswith("/svc/native")
    assert state["plain"].sans == ()
    consul.deregister("orders-sidecar-proxy")
    watching.until(lambda state: not state["orders"].sans, WITHIN)


def test_only_passing_instances_are_endpoints_unless_all_are_asked_for(consul: Consul, start_registry: Start) -> None:
    consul.register("orders", node="a", Address="10.1.1.1")
    consul.register("orders", node="b", Address="10.1.1.2", status="warning")
    consul.register("orders", node="c", Address="10.1.1.3", status="critical")
    assert endpoints(seen(start_registry(consul).watch(), "orders")) == {("10.1.1.1", 8080)}
    assert len(seen(start_registry(consul, health="any").watch(), "orders").endpoints) == 3


def test_a_failing_node_takes_all_its_instances_out(consul: Consul, start_registry: Start) -> None:
    consul.register("orders", node="a", Address="10.1.1.1")
    consul.register("billing", node="a", Address="10.1.1.2")
    watching = start_registry(consul).watch()
    check = {"CheckID": "disk", "Name": "disk", "Status": "critical"}
    consul.do("PUT", "/v1/catalog/register", {"Node": "a", "Address": "10.0.0.1", "Check": check})
    watching.until(lambda state: not any(service.endpoints for service in state.values()), WITHIN)
    assert set(watching.state) == {"orders", "billing"}, "they are unhealthy, not gone"


# The way in


@pytest.mark.parametrize("outside", [{"kind": "mesh-gateway"}, {"service": "gateway"}])
def test_the_gateways_wan_address_is_found_and_followed(
    consul: Consul, start_registry: Start, outside: dict[str, str]
) -> None:
    def gateway(address: str, status: str = "passing") -> None:
        wan = {"lan": {"Address": "10.9.9.9", "Port": 1}, "wan": {"Address": address, "Port": 443}}
        consul.register("gateway", Kind="mesh-gateway", Address="10.9.9.9", TaggedAddresses=wan, status=status)

    consul.register("orders")
    gateway("198.51.100.1")
    watching = start_registry(consul, outside=outside).watch()
    assert endpoints(seen(watching, "orders")) == {("198.51.100.1", 443)}
    gateway("198.51.100.2")
    watching.until(lambda state: endpoints(state["orders"]) == {("198.51.100.2", 443)}, WITHIN)
    gateway("198.51.100.2", status="critical")
    watching.until(lambda state: not state["orders"].endpoints, WITHIN)
    assert set(watching.state) == {"orders"}


def test_a_gateway_without_a_wan_address_is_reached_at_its_own(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    consul.register("gateway", Address="10.9.9.9", Port=8443)
    watching = start_registry(consul, outside={"service": "gateway"}).watch()
    assert endpoints(seen(watching, "orders")) == {("10.9.9.9", 8443)}


# Following


def test_a_change_that_no_query_tells_of_is_found(consul: Consul, start_registry: Start) -> None:
    """The meta of an instance: neither a check nor a name nor a tag differs."""
    consul.register("orders", Meta={"team": "shop"})
    consul.register("billing")
    watching = start_registry(consul).watch()
    service = {"Service": "orders", "ID": "orders", "Port": 8080, "Meta": {"team": "market"}}
    consul.do("PUT", "/v1/catalog/register", {"Node": "workloads", "Address": "10.0.0.1", "Service": service})
    watching.until(lambda state: state["orders"].labels == {"team": "market"}, WITHIN)


def test_an_instance_without_checks_that_goes_is_found(consul: Consul, start_registry: Start) -> None:
    for node, address in (("a", "10.1.1.1"), ("b", "10.1.1.2")):
        service = {"Service": "orders", "Address": address, "Port": 8080}
        consul.do("PUT", "/v1/catalog/register", {"Node": node, "Address": "10.0.0.1", "Service": service})
    watching = start_registry(consul).watch()
    assert len(seen(watching, "orders").endpoints) == 2
    consul.deregister("orders", node="a")
    watching.until(lambda state: endpoints(state["orders"]) == {("10.1.1.2", 8080)}, WITHIN)


def test_a_second_watch_begins_with_what_is_there_then(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    started = start_registry(consul)
    started.watch().end(10)
    consul.register("billing")
    consul.deregister("orders")
    assert set(started.watch().state) == {"billing"}


@pytest.mark.parametrize(("answered", "waits_from"), [(7, 7), (3, 3), (0, 1), (-1, 1)])
def test_the_index_to_wait_from_is_the_answered_one_and_never_below_one(answered: int, waits_from: int) -> None:
    assert next_index(answered) == waits_from


# What it costs, in requests


def spent(before: Counter[str], after: Counter[str]) -> Counter[str]:
    """Requests, but for the queries that only wait."""
    used = after - before
    for waiting in ("health/state", "catalog/services", "config/service-defaults"):
        used.pop(waiting, None)
    return used


@pytest.mark.parametrize("count", [100, 1000, pytest.param(5000, marks=pytest.mark.timeout(300))])
def test_what_a_change_costs_does_not_depend_on_how_many_services_there_are(
    consul: Consul, start_registry: Start, count: int
) -> None:
    consul.register_many(count)
    started = start_registry(consul)
    watching = started.watch()
    assert len(watching.state) == count
    requests = started.registry.requests
    begun = requests.snapshot()
    assert begun["health/service"] <= 2, "the first reading is by node, not by service"

    consul.register("orders", node="other")
    watching.until(lambda state: "orders" in state and state["orders"].endpoints, WITHIN)
    consul.register("orders", node="other", status="critical")
    watching.until(lambda state: not state["orders"].endpoints, WITHIN)
    assert spent(begun, requests.snapshot()) == {"health/service": 1}, "a new service is read, its health is told"

    before = requests.snapshot()
    consul.register("service-1", Meta={"team": "shop"})
    watching.until(lambda state: state["service-1"].labels, WITHIN)
    used = spent(before, requests.snapshot())
    assert used.total() <= 1 + 3, f"the names, then at most the list of nodes and the three there are: {used}"

    before = requests.snapshot()
    consul.deregister("orders", node="other")
    watching.until(lambda state: "orders" not in state, WITHIN)
    assert spent(before, requests.snapshot()).total() <= 1 + 1, "one reading, and one question about our rights"


def test_nothing_but_the_open_queries_is_asked_while_nothing_changes(consul: Consul, start_registry: Start) -> None:
    consul.register_many(50)
    started = start_registry(consul, wait="300ms")
    watching = started.watch()
    requests, queries = started.registry.requests, {"health/state", "catalog/services", "config/service-defaults"}
    before = requests.snapshot()
    wait_until(lambda: all((requests.snapshot() - before)[query] >= 5 for query in queries), within=WITHIN)
    assert watching.error is None
    assert set(requests.snapshot() - before) == queries


def test_our_own_writing_is_not_read_again(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    started = start_registry(consul)
    watching = started.watch()
    services = [imported_service(f"stock-{number}") for number in range(200)]
    from hamlet_core.api import WriteImport

    before = started.registry.requests.snapshot()
    started.hooks.registry_apply(changes=[WriteImport(service) for service in services])
    consul.register("billing")
    watching.until(lambda state: "billing" in state, WITHIN)
    used = started.registry.requests.snapshot() - before
    assert used["health/service"] <= 3, used
    assert set(watching.state) == {"orders", "billing"}


def test_a_flapping_check_wakes_the_watch_only_for_what_differs(consul: Consul, start_registry: Start) -> None:
    consul.register("orders")
    consul.register("billing")
    watching = start_registry(consul).watch()
    for status in ("critical", "passing"):
        consul.register("orders", status=status)
        watching.until(lambda state, status=status: bool(state["orders"].endpoints) == (status == "passing"), WITHIN)
    changed = {
        change.service.name for batch in watching.batches[1:] for change in batch if isinstance(change, Upsert)
    }
    assert changed == {"orders"}
