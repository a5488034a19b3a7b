"""Two agents as processes federate a folder, or a Consul, with a cluster: both ways, and an API server killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.backends.consul import Consul
from tests.backends.kubernetes import OwnKubernetes
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(240)]
ENTRIES = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
RULES = "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"
SERVICES = "/api/v1/namespaces/{namespace}/services"
ENDPOINTS = "/api/v1/namespaces/{namespace}/endpoints"
SAN = "spiffe://west.example/ns/shop/sa/orders"
PATIENCE = 60.0


@pytest.fixture
def west(tmp_path: Path) -> Mesh:
    return Mesh(root=tmp_path, name="west")


@pytest.fixture
def east(tmp_path: Path) -> Mesh:
    return Mesh(root=tmp_path, name="east")


@pytest.fixture
def launch() -> Iterator[Callable[[Mesh], AgentProcess]]:
    started: list[AgentProcess] = []

    def start(mesh: Mesh) -> AgentProcess:
        started.append(AgentProcess(mesh))
        return started[-1].start()

    yield start
    for agent in started:
        agent.kill()


def in_cluster(mesh: Mesh, cluster: Any, peers: dict[str, Any], *, publish: Any = None, **changes: Any) -> None:
    """Configure a mesh whose registry is the cluster."""
    options = {"kind": "istio", **cluster.options, "kubeconfig": str(cluster.kubernetes.kubeconfig)}
    options |= {"namespaces": list(cluster.options["namespaces"])} | changes
    registries = {mesh.name: {key: each for key, each in options.items() if each is not None}}
    mesh.configure(peers, registries=registries, **({"publish": publish} if publish else {}))


def write_service(mesh: Mesh, name: str, address: str = "203.0.113.7") -> None:
    fresh = mesh.services / f".{name}"
    fresh.write_text(
        f"name: {name}\nprotocol: HTTP\nport: 8080\nsans: [{SAN}]\nendpoints: [{{address: {address}, port: 8080}}]\n"
    )
    fresh.replace(mesh.services / f"{name}.yaml")


def test_a_folder_and_an_istio_mesh_see_each_others_services_come_change_and_go(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any
) -> None:
    west.configure({"east": east.peer()})
    in_cluster(east, cluster, {"west": west.peer()})
    write_service(west, "orders")
    cluster.add_pod("stock-1", "stock")
    stock = cluster.add_service("stock", pods={"10.0.0.5": "stock-1"})
    launch(west)
    consumer = launch(east)
    name = "orders-west-example"
    wait_until(lambda: name in cluster.all(ENTRIES), what=f"see {consumer.log}", within=PATIENCE)
    rule = cluster.get(RULES, name)["spec"]["trafficPolicy"]["tls"]
    assert rule == {"mode": "ISTIO_MUTUAL", "sni": "orders.west.example", "subjectAltNames": [SAN]}
    published = f"{stock}.east.example"
    wait_until(lambda: published in west.imported("east"), within=PATIENCE)
    assert f"spiffe://east.example/ns/{cluster.namespace}/sa/stock" in west.imported("east")[published]

    write_service(west, "orders", address="203.0.113.8")
    wait_until(
        lambda: cluster.get(ENTRIES, name)["spec"]["endpoints"][0]["address"] == "203.0.113.8", within=PATIENCE
    )
    cluster.add_service("stock", addresses=())
    wait_until(lambda: not west.imported("east"), what="no ready endpoint: withdrawn", within=PATIENCE)
    west.remove_service("orders")
    wait_until(lambda: not cluster.all(ENTRIES) and not cluster.all(RULES), within=PATIENCE)


def test_an_annotation_asks_to_be_published_where_the_rules_allow_it(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any
) -> None:
    west.configure({"east": east.peer()})
    publish = [{"to": "all", "direct": True, "select": {"marked": True}}]
    in_cluster(east, cluster, {"west": west.peer()}, publish=publish)
    asks = {"annotations": {"hamlet.federation/publish-to": "west"}}
    other = {"annotations": {"hamlet.federation/publish-to": "north"}}
    asking = cluster.add_service("asking", metadata=asks)
    for name, metadata in (("silent", {}), ("elsewhere", other)):
        cluster.add_service(name, metadata=metadata)
    launch(west)
    launch(east)
    wait_until(lambda: set(west.imported("east")) == {f"{asking}.east.example"}, within=PATIENCE)
    cluster.add_service("silent", metadata=asks)
    wait_until(lambda: len(west.imported("east")) == 2, within=PATIENCE)


def test_an_api_server_that_dies_loses_nothing_on_either_side(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any, own_kubernetes: OwnKubernetes
) -> None:
    west.configure({"east": east.peer()})
    in_cluster(east, cluster, {"west": west.peer()})
    write_service(west, "orders")
    stock = f"{cluster.add_service('stock')}.east.example"
    launch(west)
    agent = launch(east)
    wait_until(
        lambda: "orders-west-example" in cluster.all(ENTRIES) and stock in west.imported("east"), within=PATIENCE
    )
    before = cluster.get(ENTRIES, "orders-west-example")["metadata"]["resourceVersion"]
    own_kubernetes.kill_apiserver()
    write_service(west, "mail")
    wait_until(lambda: "does not answer" in agent.log.read_text(), within=PATIENCE)
    assert set(west.imported("east")) == {stock}
    own_kubernetes.start()
    wait_until(lambda: "mail-west-example" in cluster.all(ENTRIES), within=PATIENCE)
    assert cluster.get(ENTRIES, "orders-west-example")["metadata"]["resourceVersion"] == before
    late = cluster.add_service("late")
    wait_until(lambda: f"{late}.east.example" in west.imported("east"), within=PATIENCE)
    assert stock in west.imported("east")


def test_plain_kubernetes_imports_as_a_service_without_selector(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], make_cluster: Callable[..., Any]
) -> None:
    cluster = make_cluster(mode="kubernetes")
    west.configure({"east": east.peer()})
    in_cluster(east, cluster, {"west": west.peer()})
    write_service(west, "orders")
    launch(west)
    launch(east)
    found = wait_until(lambda: cluster.all(ENDPOINTS).get("orders-west-example"), within=PATIENCE)
    assert found["subsets"][0]["addresses"] == [{"ip": "203.0.113.7"}]
    assert "selector" not in cluster.get(SERVICES, "orders-west-example")["spec"]


def test_one_agent_has_two_clusters_by_two_contexts_of_one_kubeconfig(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any, kubernetes_binaries: Any
) -> None:
    second = OwnKubernetes(*kubernetes_binaries)
    try:
        second.start()
        second.install_crds()
        other = type(cluster)(second, second.make_namespace("other"))
        documents = [yaml.safe_load(each.kubernetes.kubeconfig.read_text()) for each in (cluster, other)]
        merged = documents[0] | {"clusters": [], "users": [], "contexts": []}
        for name, document in zip(("here", "there"), documents, strict=True):
            merged["clusters"].append({"name": name, "cluster": document["clusters"][0]["cluster"]})
            merged["users"].append({"name": name, "user": document["users"][0]["user"]})
            merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
        (east.folder / "kubeconfig").write_text(yaml.safe_dump(merged | {"current-context": "here"}))
        registries = {
            name: {
                "kind": "istio",
                "kubeconfig": "kubeconfig",
                "context": name,
                "namespaces": [each.namespace],
                "import_namespace": each.namespace,
            }
            for name, each in (("here", cluster), ("there", other))
        }
        east.configure({"west": west.peer()}, registries=registries)
        west.configure({"east": east.peer()})
        write_service(west, "orders")
        stock, mail = cluster.add_service("stock"), other.add_service("mail")
        launch(west)
        launch(east)
        for each in (cluster, other):
            wait_until(lambda each=each: "orders-west-example" in each.all(ENTRIES), within=PATIENCE)
        published = {f"{stock}.east.example", f"{mail}.east.example"}
        wait_until(lambda: set(west.imported("east")) == published, within=PATIENCE)
        marks = {
            each.get(ENTRIES, "orders-west-example")["metadata"]["labels"]["hamlet.federation/registry"]
            for each in (cluster, other)
        }
        assert marks == {"here", "there"}
        west.remove_service("orders")
        wait_until(lambda: not cluster.all(ENTRIES) and not other.all(ENTRIES), within=PATIENCE)
    finally:
        second.close()


def test_a_consul_and_an_istio_mesh_federate(
    west: Mesh, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any, consul: Consul
) -> None:
    west.configure({"east": east.peer()}, registries={"west": {"kind": "consul", "address": consul.address}})
    in_cluster(east, cluster, {"west": west.peer()}, plaintext=True)
    service = {
        "ID": "orders",
        "Service": "orders",
        "Address": "203.0.113.7",
        "Port": 8080,
        "Meta": {"protocol": "http"},
    }
    check = {"CheckID": "alive", "Name": "alive", "ServiceID": "orders", "Status": "passing"}
    consul.do(
        "PUT",
        "/v1/catalog/register",
        {"Node": "workloads", "Address": "10.0.0.1", "Service": service, "Check": check},
    )
    stock = cluster.add_service("stock")
    launch(west)
    launch(east)
    wait_until(lambda: "orders-west-example" in cluster.all(ENTRIES), within=PATIENCE)
    entry = cluster.get(ENTRIES, "orders-west-example")["spec"]
    assert entry["endpoints"] == [{"address": "203.0.113.7", "ports": {"http": 8080}}]
    wanted = f"{stock}.east.example".replace(".", "-")
    wait_until(lambda: wanted in consul.do("GET", "/v1/catalog/services"), within=PATIENCE)
    consul.do("PUT", "/v1/catalog/deregister", {"Node": "workloads", "ServiceID": "orders"})
    wait_until(lambda: not cluster.all(ENTRIES), within=PATIENCE)
    cluster.remove_service("stock")
    wait_until(lambda: wanted not in consul.do("GET", "/v1/catalog/services"), within=PATIENCE)
