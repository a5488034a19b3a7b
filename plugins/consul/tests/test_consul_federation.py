"""Two real Consuls federated by two agents: services cross both ways, and no fault of Consul withdraws any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backends.consul import Consul, StartConsul
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until


@dataclass
class Side:
    """One organisation: its Consul, its mesh's files, its agent."""

    mesh: Mesh
    consul: Consul
    agent: AgentProcess

    def passing(self, name: str) -> list[tuple[str, int]]:
        """What a workload gets for a name from Consul's health endpoint."""
        rows = self.consul.do("GET", f"/v1/health/service/{name}?passing")
        return sorted((row["Service"]["Address"] or row["Node"]["Address"], row["Service"]["Port"]) for row in rows)


@pytest.fixture
def sides(tmp_path: Path, start_consul: StartConsul) -> Iterator[tuple[Side, Side]]:
    """West and east, linked, each with a durable Consul of its own."""
    meshes = [Mesh(root=tmp_path, name=name) for name in ("west", "east")]
    made = [
        Side(mesh=mesh, consul=start_consul(datacenter=mesh.name, durable=True), agent=AgentProcess(mesh))
        for mesh in meshes
    ]
    for side, other in zip(made, reversed(made), strict=True):
        side.mesh.configure(
            {other.mesh.name: other.mesh.peer()},
            registries={side.mesh.name: {"kind": "consul", "address": side.consul.address, "wait": "5s"}},
        )
        side.agent.start()
    try:
        for side, other in zip(made, reversed(made), strict=True):
            side.agent.state(other.mesh.name, "imports", "live")
        yield made[0], made[1]
    finally:
        for side in made:
            side.agent.end()


def arrives(side: Side, name: str, address: str, port: int = 8080) -> None:
    wait_until(
        lambda: side.passing(name) == [(address, port)], what=f"{name} at {address}; it is {side.passing(name)}"
    )


def publishing(side: Side) -> str:
    """The state in which its agent says that it publishes; empty while it does not answer."""
    return next((each["publishing"]["state"] for each in side.agent.status().get("registries", ())), "")


def stays(check: Callable[[], Any], seconds: float) -> None:
    """Fail as soon as `check()` is false within `seconds`."""
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: not check(), within=seconds)


def test_services_cross_in_both_directions_follow_changes_and_go(sides: tuple[Side, Side]) -> None:
    west, east = sides
    west.consul.register("orders", Address="10.1.0.1", Tags=["v1"])
    east.consul.register("stock", Address="10.2.0.1")
    arrives(east, "orders-west-example", "10.1.0.1")
    arrives(west, "stock-east-example", "10.2.0.1")
    west.consul.register("orders", Address="10.1.0.9", Tags=["v2"])
    arrives(east, "orders-west-example", "10.1.0.9")
    assert west.consul.do("GET", "/v1/catalog/service/orders")[0]["Node"] == "workloads", (
        "never an import of an import"
    )
    west.consul.deregister("orders")
    wait_until(lambda: not east.passing("orders-west-example"))
    assert east.passing("stock") == [("10.2.0.1", 8080)]
    arrives(west, "stock-east-example", "10.2.0.1")


def test_an_instance_that_fails_its_check_is_no_endpoint_and_the_last_one_withdraws_the_service(
    sides: tuple[Side, Side],
) -> None:
    west, east = sides
    west.consul.register("orders", ID="orders-1", Address="10.1.0.1")
    west.consul.register("orders", ID="orders-2", Address="10.1.0.2")
    wait_until(lambda: len(east.passing("orders-west-example")) == 2)
    west.consul.register("orders", ID="orders-1", Address="10.1.0.1", status="critical")
    arrives(east, "orders-west-example", "10.1.0.2")
    west.consul.register("orders", ID="orders-2", Address="10.1.0.2", status="critical")
    wait_until(lambda: not east.passing("orders-west-example"))


def test_a_consul_killed_and_restarted_withdraws_nothing_and_loses_no_import(sides: tuple[Side, Side]) -> None:
    west, east = sides
    west.consul.register("orders", Address="10.1.0.1")
    east.consul.register("stock", Address="10.2.0.1")
    arrives(east, "orders-west-example", "10.1.0.1")
    arrives(west, "stock-east-example", "10.2.0.1")
    west.consul.kill()
    wait_until(lambda: publishing(west) == "silent")
    stays(lambda: east.passing("orders-west-example"), seconds=2)
    east.consul.register("more", Address="10.2.0.2")
    west.consul.restart()
    arrives(west, "stock-east-example", "10.2.0.1")
    arrives(west, "more-east-example", "10.2.0.2")
    assert east.passing("orders-west-example") == [("10.1.0.1", 8080)]
    wait_until(lambda: publishing(west) == "live")


def test_an_agent_restarted_beside_consul_adopts_what_it_wrote(sides: tuple[Side, Side]) -> None:
    west, east = sides
    west.consul.register("orders", Address="10.1.0.1")
    arrives(east, "orders-west-example", "10.1.0.1")

    def written() -> int:
        return int(east.consul.do("GET", "/v1/catalog/service/orders-west-example")[0]["ModifyIndex"])

    before = written()
    east.agent.kill()
    assert east.passing("orders-west-example"), "the registry keeps it while the agent is away"
    east.agent.start()
    east.agent.state("west", "imports", "live")
    assert written() == before, "adopted, not written anew"
