"""A whole agent in this process: taking over changes, leaving, stopping, and failing to start."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import grpc
import pytest

from hamlet_core.agent.agent import Agent
from hamlet_core.api import HamletError
from hamlet_core.config import load
from tests.support.meshes import Mesh, eventually, running
from tests.support.scripted import ack, dialling, service_two, serving, subscribe_two, upsert


async def names_of(wire, count):
    """Take and acknowledge so many services."""
    names = set()
    while len(names) < count:
        response = (await wire.until(lambda m: m.HasField("response"))).response
        names.add(response.resource_id)
        await wire.send(ack(response.nonce))
    return names


async def test_two_agents_keep_one_stream_and_part_with_a_word(west, east):
    west.write_service("a")
    east.write_service("b")
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(backoff_cap="1s")})
    async with running(east) as eastern:
        async with running(west) as western:
            await western.state("east", "imports", "live")
            await eastern.state("west", "imports", "live")
            await western.state("east", "exports", "live")
            sides = ((western, "east"), (eastern, "west"))  # the one that ends a second stream is the first to know
            await eventually(
                lambda: [len(agent.peer(peer)["streams"]) for agent, peer in sides] == [1, 1],
                what="one stream carries both",
            )
        await eastern.state("west", "imports", "stale")
        assert set(east.imported("west")) == {"a.west.example"}, "nothing is withdrawn"
        async with running(west):
            await eastern.state("west", "imports", "live")


async def test_a_consumer_sees_the_agent_stop_and_why(west, east):
    west.configure({"east": east.peer(address=None)})
    async with contextlib.AsyncExitStack() as stack:
        async with running(west) as agent:
            wire = await stack.enter_async_context(dialling(east, west))
            await wire.send(subscribe_two())
            await agent.state("east", "exports", "live")
        code, reason = await wire.ended()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in reason


async def test_stopping_waits_for_no_stream_that_stands(west, east):
    west.configure({"east": east.peer(address=None)})
    async with running(west) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two())
        await agent.state("east", "exports", "live")
        stopping = asyncio.create_task(agent.agent.server.stop(600))
        agent.agent.peerings["east"].close(grpc.StatusCode.UNAVAILABLE, "stopping")
        await asyncio.wait_for(stopping, 30)


@pytest.mark.parametrize("change", ["removed", "settings", "left"])
async def test_a_stream_of_a_peer_that_changed_ends_before_the_change_is_done(west, east, change):
    async def owner(wire):
        await wire.send(upsert(service_two("a.west.example")))
        while await wire.receive() is not None:
            pass

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east) as agent, dialling(west, east) as wire:
        await wire.send(subscribe_two())
        await agent.state("west", "imports", "live")
        await agent.state("west", "exports", "live")
        before = agent.agent.peerings["west"]
        if change == "left":
            await agent.agent.leave("west")
        else:
            east.configure({"west": west.peer(quiet="200ms")} if change == "settings" else {})
            await agent.reload()
        assert before.streams == (), "what still came from it would count for the new settings"
        code, _ = await wire.ended()
        assert code is (grpc.StatusCode.UNAVAILABLE if change == "settings" else grpc.StatusCode.UNAUTHENTICATED)
        if change == "settings":
            await agent.state("west", "imports", "live")
            assert agent.agent.peerings["west"] is not before
            assert set(east.imported("west")) == {"a.west.example"}
        else:
            await eventually(lambda: not east.imported("west"), what="what came from it is withdrawn")


async def test_changes_asked_for_at_the_same_time_are_made_one_after_the_other(west, east):
    north = Mesh(root=west.root, name="north")
    west.configure({"east": east.peer(), "north": north.peer()})
    async with running(west) as agent:
        first = load.read(west.configure({"east": east.peer(quiet="1s"), "north": north.peer(quiet="1s")}))
        second = load.read(west.configure({"north": north.peer(quiet="2s")}))
        await asyncio.gather(
            agent.agent.reload(first),
            agent.agent.reload(second),
            agent.agent.leave("north"),
            agent.agent.reload(first),
        )
        assert set(agent.agent.peerings) == set(agent.agent.links) == {"east", "north"}
        assert agent.agent.config.peers["north"].quiet.total_seconds() == 1
        assert not agent.agent.supervisor.crashes


async def test_a_configuration_that_cannot_be_in_force_changes_nothing(west, east):
    west.configure({"east": east.peer()})
    async with running(west) as agent:
        before = agent.agent.config
        west.configure({}, mesh={"name": "other", "domain": "west.example", "trust_domain": "west.example"})
        with pytest.raises(HamletError, match="mesh cannot change"):
            await agent.reload()
        assert agent.agent.config is before
        assert set(agent.agent.peerings) == {"east"}


async def test_a_change_of_rules_reaches_a_standing_stream_as_the_difference(west, east):
    for name in ("a", "b"):
        west.write_service(name)
    west.configure({"east": east.peer(address=None)})
    async with running(west) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two())
        assert await names_of(wire, 2) == {"a.west.example", "b.west.example"}
        await agent.state("east", "exports", "live")
        rules = [{"select": {"name": "a"}, "to": "all", "direct": True}]
        west.configure({"east": east.peer(address=None)}, publish=rules)
        await agent.reload()
        response = (await wire.until(lambda m: m.HasField("response"))).response
        assert (response.resource_id, response.operation) == ("b.west.example", 2)


async def test_an_edited_or_deleted_import_is_mended(west, east, monkeypatch):
    monkeypatch.setattr("hamlet_core.agent.importer.DRIFT_CHECK", 0.5)

    async def owner(wire):
        for name in ("a", "b"):
            await wire.send(upsert(service_two(f"{name}.west.example"), nonce=name))
        while await wire.receive() is not None:
            pass

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east) as agent:
        await agent.state("west", "imports", "live")
        await eventually(lambda: len(east.imported("west")) == 2)
        good = east.imported("west")
        folder = east.folder / "mesh" / "imported" / "west"
        (folder / "a.west.example.yaml").unlink()
        edited = folder / "b.west.example.yaml"
        edited.write_text(edited.read_text().replace("192.0.2.7", "192.0.2.66"))
        await eventually(lambda: east.imported("west") == good, what="both are as they were")


async def test_until_all_local_names_are_known_nothing_is_imported(west, east):
    """A second registry that has not reported may have the name."""

    async def owner(wire):
        await wire.send(upsert(service_two("a.west.example")))
        while (await wire.until(lambda message: message.request.response_nonce)).request.status.code != 0:
            await asyncio.sleep(0.1)  # `late` could not take it yet: it comes again, as from any owner
            await wire.send(upsert(service_two("a.west.example")))
        while await wire.receive() is not None:
            pass

    (east.folder / "late").mkdir()
    registries = {"east": {"kind": "file", "path": "mesh"}, "late": {"kind": "file", "path": "late"}}
    east.configure({"west": west.peer()}, registries=registries)
    async with serving(west, east, v1alpha2=owner), running(east, ready=False) as agent:
        publishers = agent.agent.publishers
        await eventually(lambda: publishers["east"].reported)
        assert not publishers["late"].reported
        assert agent.agent.importer.lanes[0].reconciler._local_known is False
        (east.folder / "late" / "services").mkdir()
        await agent.state("west", "imports", "live")
        assert set(east.imported("west")) == {"a.west.example"}


async def test_a_port_that_is_taken_is_an_error_with_its_mend(west):
    west.configure({})
    with socket.create_server(("127.0.0.1", west.port)):
        agent = Agent(load.read(west.config_path))
        with pytest.raises(HamletError, match="cannot listen") as error:
            await agent.start()
        assert "port free" in error.value.mend
        await agent.stop()
