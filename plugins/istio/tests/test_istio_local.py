"""What becomes a service of the mesh: tables for the rules, and the real API for what is followed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hamlet_istio.local import protocol_of, workload_of

from hamlet_core.api import Protocol, Snapshot, WriteImport
from hamlet_core.api.testing import imported_service

pytestmark = pytest.mark.xdist_group("kubernetes")
SERVICES = "/api/v1/namespaces/{namespace}/services"
SLICES = "/apis/discovery.k8s.io/v1beta1/namespaces/{namespace}/endpointslices"
ENDPOINTS = "/api/v1/namespaces/{namespace}/endpoints"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
WORKLOADS = "/apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries"
SECONDS = 60.0


@pytest.mark.parametrize(
    ("name", "app_protocol", "protocol"),
    [
        ("http", None, Protocol.HTTP),
        ("HTTP-web", None, Protocol.HTTP),
        ("http2-x", None, Protocol.HTTP2),
        ("https", None, Protocol.HTTPS),
        ("grpc-api", None, Protocol.GRPC),
        ("grpc-web", None, Protocol.GRPC),
        ("mongo-0", None, Protocol.MONGO),
        ("tls-db", None, Protocol.TLS),
        ("tcp", None, Protocol.TCP),
        ("mysql", None, Protocol.TCP),
        ("httpx", None, Protocol.TCP),
        ("", None, Protocol.TCP),
        ("tcp", "http", Protocol.HTTP),
        ("http", "tcp", Protocol.TCP),
        ("http", "kubernetes.io/h2c", Protocol.HTTP2),
        ("web", "kubernetes.io/wss", Protocol.HTTPS),
        ("http", "example.com/own", Protocol.TCP),
    ],
)
def test_app_protocol_goes_before_the_name_of_the_port(
    name: str, app_protocol: str | None, protocol: Protocol
) -> None:
    assert protocol_of(name, app_protocol) is protocol


def test_a_service_is_told_with_its_ports_labels_annotations_and_identities(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.add_pod("orders-1", "orders")
    cluster.add_pod("orders-2", "orders-canary")
    notes = {
        "hamlet.federation/publish-to": "north, east",
        "hamlet.federation/description": "All orders",
        "hamlet.federation/tags": "v2,shop",
    }
    name = cluster.add_service(
        "orders",
        [
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "grpc-api", "port": 90},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
        ("10.0.0.5", "10.0.0.6"),
        unready=("10.0.0.7",),
        pods={"10.0.0.5": "orders-1", "10.0.0.6": "orders-2", "10.0.0.7": "orders-3"},
        metadata={"labels": {"team": "shop"}, "annotations": notes},
    )
    service = open_registry(cluster).watch().state[name]
    assert [(p.name, p.port, p.protocol) for p in service.ports] == [("http", 80, "HTTP"), ("grpc-api", 90, "GRPC")]
    assert [(e.address, e.port, e.labels) for e in service.endpoints] == [
        ("10.0.0.5", 90, ("grpc-api",)),
        ("10.0.0.5", 8080, ("http",)),
        ("10.0.0.6", 90, ("grpc-api",)),
        ("10.0.0.6", 8080, ("http",)),
    ]
    namespace = cluster.namespace
    assert service.sans == (
        f"spiffe://west.example/ns/{namespace}/sa/orders",
        f"spiffe://west.example/ns/{namespace}/sa/orders-canary",
    )
    assert (service.publish_to, service.tags) == (("east", "north"), ("shop", "v2"))
    assert (service.description, service.labels) == ("All orders", {"team": "shop"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"unready": True}, {"endpoints": 2}),
        ({"publish_annotation": None}, {"publish_to": ()}),
        ({"publish_annotation": "example.com/to"}, {"publish_to": ("all",)}),
        ({"trust_domain": "cluster.local"}, {"sans": "spiffe://cluster.local/ns/{namespace}/sa/one"}),
        ({"san": "{name}.example"}, {"sans": "orders.example"}),
        ({"san": ""}, {"sans": None}),
        ({"mode": "kubernetes"}, {"sans": None}),
    ],
)
def test_options_say_what_counts(
    make_cluster: Callable[..., Any], open_registry: Callable[..., Any], options: dict[str, Any], expected: Any
) -> None:
    cluster = make_cluster(**options)
    cluster.add_pod("pod", "one")
    notes = {"hamlet.federation/publish-to": "east", "example.com/to": "all"}
    pods = {"10.0.0.5": "pod", "10.0.0.6": "pod"}
    name = cluster.add_service("orders", unready=("10.0.0.6",), pods=pods, metadata={"annotations": notes})
    service = open_registry(cluster).watch().state[name]
    found: dict[str, Any] = {"endpoints": len(service.endpoints), "publish_to": service.publish_to}
    found["sans"] = service.sans[0] if service.sans else None
    expected = {k: v.format(namespace=cluster.namespace) if isinstance(v, str) else v for k, v in expected.items()}
    assert found | expected == found


def test_headless_services_and_virtual_machines_count_and_aliases_and_imports_do_not(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, external_san="spiffe://{trust_domain}/vm/{name}")
    headless = cluster.add_service("headless", clusterIP="None")
    cluster.put(SERVICES, "alias", {"spec": {"type": "ExternalName", "externalName": "example.com"}})
    spec: dict[str, Any] = {"hosts": ["vm.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC"}
    spec["ports"] = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"}
    inline = [{"address": "10.1.0.1"}, {"address": "10.1.0.2", "ports": {"http": 81}}]
    cluster.put(ENTRIES, "inline", {**entry, "spec": {**spec, "endpoints": inline}})
    selecting = {**spec, "workloadSelector": {"labels": {"app": "vm"}}}
    cluster.put(ENTRIES, "selecting", {**entry, "spec": selecting})
    outside = {**spec, "location": "MESH_EXTERNAL", "hosts": ["api.example"]}
    cluster.put(ENTRIES, "outside", {**entry, "spec": outside})
    write = imported_service("stock")
    opened.hooks.registry_apply(changes=[WriteImport(write)])
    watching = opened.watch()
    state = watching.state
    assert set(state) == {headless, *(f"{name}.{cluster.namespace}" for name in ("inline", "selecting"))}
    machine = state[f"inline.{cluster.namespace}"]
    assert [(e.address, e.port) for e in machine.endpoints] == [("10.1.0.1", 8080), ("10.1.0.2", 81)]
    assert machine.sans == ("spiffe://west.example/vm/inline",)
    name = f"selecting.{cluster.namespace}"
    assert state[name].endpoints == ()
    workload = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry"}
    workload["spec"] = {"address": "10.1.0.9", "labels": {"app": "vm"}, "serviceAccount": "vm"}  # type: ignore[assignment]
    cluster.put(WORKLOADS, "vm-1", workload)
    found = watching.until(lambda state: state[name].endpoints, SECONDS)[name]
    assert [(e.address, e.port) for e in found.endpoints] == [("10.1.0.9", 8080)]
    assert found.sans == (f"spiffe://west.example/ns/{cluster.namespace}/sa/vm",)
    cluster.remove(WORKLOADS, "vm-1")
    watching.until(lambda state: not state[name].endpoints, SECONDS)
    cluster.remove(ENTRIES, "inline")
    watching.until(lambda state: f"inline.{cluster.namespace}" not in state, SECONDS)
    assert sum(isinstance(batch, Snapshot) for batch in watching.batches) == 1


def selecting_entry(cluster: Any, name: str = "mixed", **spec: Any) -> str:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    whole = {"hosts": [f"{name}.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": ports}
    whole |= spec or {"workloadSelector": {"labels": {"app": name}}}
    cluster.put(ENTRIES, name, {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": whole})
    return f"{name}.{cluster.namespace}"


def places(state: Any, name: str) -> dict[str, int]:
    return {each.address: each.port for each in state[name].endpoints} if name in state else {}


def test_an_entry_that_selects_takes_pods_as_well_as_virtual_machines(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.add_pod("mixed-1", "shop", {"app": "mixed"})
    cluster.run_pod("mixed-1", "10.2.0.1")
    cluster.add_pod("else", "shop", {"app": "else"})
    cluster.run_pod("else", "10.2.0.9")
    workload: dict[str, Any] = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry"}
    workload["spec"] = {"address": "10.1.0.9", "labels": {"app": "mixed"}, "serviceAccount": "vm"}
    cluster.put(WORKLOADS, "vm-1", workload)
    name = selecting_entry(cluster)
    watching = open_registry(cluster).watch()
    assert isinstance(watching.batches[0], Snapshot)
    assert places(watching.state, name) == {"10.1.0.9": 8080, "10.2.0.1": 8080}
    san = f"spiffe://west.example/ns/{cluster.namespace}/sa"
    assert watching.state[name].sans == (f"{san}/shop", f"{san}/vm")

    cluster.add_pod("mixed-2", "canary", {"app": "mixed"})
    cluster.run_pod("mixed-2", "10.2.0.2", ready=False)
    cluster.run_pod("mixed-2", "10.2.0.2")
    state = watching.until(lambda state: "10.2.0.2" in places(state, name), SECONDS)
    assert f"{san}/canary" in state[name].sans
    cluster.run_pod("mixed-2", "10.2.0.2", ready=False)
    watching.until(lambda state: "10.2.0.2" not in places(state, name), SECONDS)
    cluster.remove_pod("mixed-1")
    watching.until(lambda state: places(state, name) == {"10.1.0.9": 8080}, SECONDS)


@pytest.mark.parametrize(
    ("pod", "unready", "counts"),
    [
        ({"status": {"podIP": "10.2.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}, False, True),
        ({"status": {"podIP": "10.2.0.1", "conditions": [{"type": "Ready", "status": "False"}]}}, False, False),
        ({"status": {"podIP": "10.2.0.1", "conditions": [{"type": "Ready", "status": "False"}]}}, True, True),
        ({"status": {"podIP": "10.2.0.1"}}, False, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True, False),
        ({"status": {"podIP": "10.2.0.1", "phase": "Succeeded"}}, True, False),
        ({"status": {"podIP": "10.2.0.1", "phase": "Failed"}}, True, False),
        ({"metadata": {"deletionTimestamp": "now"}, "status": {"podIP": "10.2.0.1"}}, True, False),
        ({}, True, False),
    ],
)
def test_a_pod_counts_while_it_serves(pod: dict[str, Any], unready: bool, counts: bool) -> None:
    found = workload_of({"metadata": {}, **pod}, unready=unready)
    assert (found is not None) == counts
    assert found is None or found["spec"] == {"address": "10.2.0.1", "serviceAccount": "default"}


def test_an_entry_that_begins_to_select_is_never_told_without_its_pods(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.add_pod("late-1", "shop", {"app": "late"})
    cluster.run_pod("late-1", "10.2.0.1")
    name = selecting_entry(cluster, "late", endpoints=[{"address": "10.1.0.1"}])
    watching = open_registry(cluster).watch()
    assert places(watching.state, name) == {"10.1.0.1": 8080}
    selecting_entry(cluster, "late")
    watching.until(lambda state: places(state, name) == {"10.2.0.1": 8080}, SECONDS)
    for batch in watching.batches:
        told = batch.services if isinstance(batch, Snapshot) else [each.service for each in batch]  # type: ignore[union-attr]
        assert all(each.endpoints for each in told), "at no time it looked as if nobody served it"


def test_pods_are_followed_only_where_an_entry_selects(
    kubernetes: Any, make_cluster: Callable[..., Any], fresh_namespace: str, open_registry: Callable[..., Any]
) -> None:
    """In a namespace of its own: threads have its name, and those of the test before may still be ending."""
    cluster = type(make_cluster())(kubernetes, fresh_namespace)
    selecting_entry(cluster, "inline", endpoints=[{"address": "10.1.0.1"}])
    watching = open_registry(cluster).watch()
    names = {each.name for each in threading.enumerate()}
    assert f"istio-services-{cluster.namespace}" in names
    assert f"istio-pods-{cluster.namespace}" not in names
    selecting_entry(cluster, "inline")
    watching.until(lambda state: not places(state, f"inline.{cluster.namespace}"), SECONDS)
    assert f"istio-pods-{cluster.namespace}" in {each.name for each in threading.enumerate()}


def test_the_last_ready_endpoint_takes_the_endpoints_and_not_the_service(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    name = cluster.add_service("orders")
    watching = open_registry(cluster).watch()
    cluster.add_service("orders", addresses=(), unready=("10.0.0.5",))
    assert watching.until(lambda state: not state[name].endpoints, SECONDS)[name].ports


def test_all_namespaces_are_read_but_those_that_are_excluded(
    cluster: Any, open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    name = cluster.add_service("orders")
    body = {"metadata": {"name": "hidden"}, "spec": {"ports": [{"port": 80}]}}
    cluster.kubernetes.do("POST", SERVICES.format(namespace=fresh_namespace), body)
    hidden = f"hidden.{fresh_namespace}"
    state = open_registry(cluster, namespaces=None, exclude_namespaces=()).watch().state
    assert {name, hidden} <= set(state)
    assert "kubernetes.default" not in state
    state = open_registry(cluster, namespaces=None, exclude_namespaces=(fresh_namespace,)).watch().state
    assert name in state
    assert hidden not in state


def test_endpoints_are_read_where_slices_are_not_wanted(cluster: Any, open_registry: Callable[..., Any]) -> None:
    cluster.put(SERVICES, "old", {"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}})
    subset = {"addresses": [{"ip": "10.0.0.9"}], "notReadyAddresses": [{"ip": "10.0.0.8"}]}
    cluster.put(ENDPOINTS, "old", {"subsets": [{**subset, "ports": [{"port": 8080}]}]})
    service = open_registry(cluster, endpoints_api="v1").watch().state[f"old.{cluster.namespace}"]
    assert [(e.address, e.port, e.labels) for e in service.endpoints] == [("10.0.0.9", 8080, ("tcp",))]


def test_a_service_whose_pods_are_many_is_learnt_by_listing_them(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    pods = {f"10.0.1.{n}": f"many-{n}" for n in range(1, 12)}
    for pod in pods.values():
        cluster.add_pod(pod, "crowd")
    name = cluster.add_service("many", addresses=tuple(pods), pods=pods)
    assert open_registry(cluster).watch().state[name].sans[0].endswith("/sa/crowd")


def test_another_pod_of_the_same_name_is_asked_for_anew(cluster: Any, open_registry: Callable[..., Any]) -> None:
    cluster.add_pod("db-0", "before")
    name = cluster.add_service("db", pods={"10.0.0.5": "db-0"})
    watching = open_registry(cluster).watch()
    assert watching.state[name].sans[0].endswith("/sa/before")
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/db-0?gracePeriodSeconds=0"
    cluster.kubernetes.do("DELETE", path)
    cluster.add_pod("db-0", "after")
    cluster.add_service("db", pods={"10.0.0.5": "db-0"})
    watching.until(lambda state: state[name].sans[0].endswith("/sa/after"), SECONDS)
