"""Two agents as processes: one mesh is a cluster behind an ingress gateway of Istio, the other a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hamlet_istio.naming import object_name

from tests.backends.istio_gateway import ENTRIES, GATEWAYS, POLICIES, RULES, SECRETS
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(240)]
SAN = "spiffe://west.example/ns/shop/sa/orders"
PATIENCE = 60.0


@pytest.fixture
def launch() -> Iterator[Callable[[Mesh], AgentProcess]]:
    started: list[AgentProcess] = []

    def start(mesh: Mesh) -> AgentProcess:
        started.append(AgentProcess(mesh))
        return started[-1].start()

    yield start
    for agent in started:
        agent.kill()


@pytest.fixture
def east(tmp_path: Path, world: Any) -> Mesh:
    """A mesh whose registry and gateway are the cluster."""
    world.add_ingress()
    return Mesh(root=tmp_path, name="east")


def configure(east: Mesh, west: Mesh, cluster: Any, world: Any, **gateway: Any) -> None:
    registry = {"kind": "istio", **cluster.options, "kubeconfig": str(cluster.kubernetes.kubeconfig)}
    registry["namespaces"] = list(cluster.options["namespaces"])
    given = world.options(**gateway) | {"kind": "istio", "kubeconfig": str(cluster.kubernetes.kubeconfig)}
    east.configure(
        {"west": west.peer()},
        registries={"east": {key: each for key, each in registry.items() if each is not None}},
        gateway=given,
        publish=[{"to": "all"}],
    )


def test_calls_in_are_published_by_the_load_balancer_and_calls_out_are_left_to_the_sidecars(
    tmp_path: Path, east: Mesh, launch: Callable[[Mesh], AgentProcess], cluster: Any, world: Any
) -> None:
    west = Mesh(root=tmp_path, name="west")
    west.configure({"east": east.peer()})
    configure(east, west, cluster, world)
    stock = f"{cluster.add_service('stock')}.east.example"
    (west.services / "orders.yaml").write_text(
        f"name: orders\nprotocol: HTTP\nport: 8080\nsans: [{SAN}]\n"
        "endpoints: [{address: 203.0.113.7, port: 8080}]\n"
    )
    launch(west)
    agent = launch(east)
    wait_until(lambda: "has no address yet" in agent.log.read_text(), what=f"see {agent.log}", within=PATIENCE)
    assert stock not in west.imported("east"), "nobody could call it"

    world.assign({"ip": "203.0.113.9"})
    wait_until(lambda: stock in west.imported("east"), what=f"see {agent.log}", within=PATIENCE)
    said = yaml.safe_load(west.imported("east")[stock])
    assert [(each["address"], each["port"]) for each in said["endpoints"]] == [("203.0.113.9", 443)]
    assert set(said["sans"]) == {"spiffe://east.example/hamlet/agent", "agent.east.example"}
    door = world.all(GATEWAYS)[object_name(stock)]["spec"]["servers"][0]
    assert door["hosts"] == [f"./{stock}"]
    assert door["tls"]["credentialName"] in world.all(SECRETS)
    policy = world.all(POLICIES)[object_name(stock)]["spec"]["rules"][0]
    assert policy["from"] == [{"source": {"notPrincipals": ["west.example/*"]}}]

    wait_until(lambda: "orders-west-example" in cluster.all(ENTRIES), what=f"see {agent.log}", within=PATIENCE)
    rule = world.all(RULES, world.callers)["orders-west-example"]["spec"]
    assert rule["workloadSelector"] == {"matchLabels": {"mesh": "out"}}
    assert rule["trafficPolicy"]["tls"] == {
        "mode": "MUTUAL",
        "credentialName": "hamlet-egress-west",
        "sni": "orders.west.example",
        "subjectAltNames": [SAN],
    }
    assert "hamlet-egress-west" in world.all(SECRETS, world.callers)

    world.assign({"ip": "203.0.113.10"})
    wait_until(lambda: "203.0.113.10" in west.imported("east").get(stock, ""), within=PATIENCE)
    cluster.remove_service("stock")
    wait_until(lambda: stock not in west.imported("east"), within=PATIENCE)
    wait_until(lambda: not world.all(GATEWAYS) and not world.all(POLICIES), what="withdrawn, then", within=PATIENCE)
    west.remove_service("orders")
    wait_until(lambda: not cluster.all(ENTRIES), within=PATIENCE)
    wait_until(lambda: not world.all(SECRETS, world.callers), within=PATIENCE)
