"""10,000 services to 20 consumers, one of which never acknowledges: the others converge, and it costs nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.protocol.conftest import MakeMesh
from tests.support.meshes import Mesh, eventually
from tests.support.processes import AgentProcess
from tests.support.scripted import DELETE_TWO, Wire, ack, dialling, subscribe_two

SERVICES = 10_000
CONSUMERS = 20


@pytest.fixture
def owner(west: Mesh) -> Iterator[AgentProcess]:
    agent = AgentProcess(west)
    yield agent
    agent.end()


def publish(west: Mesh, tags: dict[str, str]) -> None:
    """Register all services in one file."""
    rows = [
        {
            "name": name,
            "protocol": "HTTP",
            "port": 80,
            "tags": [tag],
            "endpoints": [{"address": "10.0.0.1", "port": 80}],
        }
        for name, tag in tags.items()
    ]
    fresh = west.services / "all.tmp"
    fresh.write_text(json.dumps(rows))
    fresh.replace(west.services / "all.json")


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


async def follow(wire: Wire, view: dict[str, bytes]) -> None:
    """Take everything and acknowledge it, for as long as the stream lives."""
    await wire.send(subscribe_two())
    while (message := await wire.receive()) is not None:
        if not message.HasField("response"):
            continue
        response = message.response
        if response.operation == DELETE_TWO:
            view.pop(response.resource_id, None)
        elif response.resource_id:
            view[response.resource_id] = response.resource.value
        await wire.send(ack(response.nonce))


@pytest.mark.timeout(420)
async def test_a_consumer_that_never_acknowledges_costs_the_others_nothing(
    west: Mesh, make_mesh: MakeMesh, owner: AgentProcess
) -> None:
    meshes = [make_mesh(f"mesh{number}") for number in range(CONSUMERS)]
    west.configure({mesh.name: mesh.peer(address=None, ack_timeout="1h") for mesh in meshes})
    tags = {f"s{number}": "v1" for number in range(SERVICES)}
    publish(west, tags)
    owner.start()
    await eventually(lambda: owner.status().get("ready"), what="the owner is ready")
    views: list[dict[str, bytes]] = [{} for _ in meshes]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        wires = [
            await stack.enter_async_context(dialling(mesh, west, metadata=(("hamlet-extensions", "window=256"),)))
            for mesh in meshes
        ]
        silent, *others = wires
        await silent.send(subscribe_two())
        followers = [tasks.create_task(follow(wire, view)) for wire, view in zip(others, views[1:], strict=True)]
        await eventually(lambda: all(len(view) == SERVICES for view in views[1:]), within=240, what="all 19 have all")
        before = resident(owner.pid)
        for change in range(5):
            for number in range(change * 400, change * 400 + 400):
                tags[f"s{number}"] = f"change{change}"
            del tags[f"s{SERVICES - 1 - change}"]
            publish(west, tags)
            mark = f"change{change}".encode()
            wanted = f"s{change * 400 + 399}.west.example"
            await eventually(
                lambda mark=mark, wanted=wanted: all(
                    len(view) == len(tags) and mark in view[wanted] for view in views[1:]
                ),
                within=120,
                what="all 19 have the change",
            )
        grown = resident(owner.pid) - before

        def lags() -> list[int]:
            return [peer["exports"]["lag"] for peer in owner.status()["peers"]]

        await eventually(lambda: not any(lags()[1:]), what="all 19 have acknowledged everything")
        assert lags()[0] >= len(tags), "the silent one is still there and has acknowledged nothing"
        # What changed is held once, not once more for the consumer that lags: 2,000 changes, a few MiB of slack.
        assert grown < 32 * 1024 * 1024, f"the owner grew by {grown} bytes"
        for follower in followers:
            follower.cancel()
