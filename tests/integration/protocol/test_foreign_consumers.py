"""Consumers of other makes, each misbehaving in one way that real ones do. The agent under test owns."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc.status_pb2 import Status

from hamlet_core import backoff
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha1 import resourcediscovery_pb2 as one
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha2 import resourcediscovery_pb2 as two
from tests.support.meshes import Mesh, eventually, running, stays
from tests.support.scripted import CREATE, DELETE_ONE, DELETE_TWO, UPDATE, URL, ack, dialling, subscribe_two


def subscribe_one() -> one.StreamRequest:
    return one.StreamRequest(resource_url=URL["v1alpha1"])


def ack_one(nonce: str, code: int = 0, message: str = "") -> one.StreamRequest:
    status = Status(code=code, message=message)
    return one.StreamRequest(resource_url=URL["v1alpha1"], response_nonce=nonce, status=status)


async def next_one(wire) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    from hamlet_core.wire._gen.federation.types.v1alpha1.federated_service_pb2 import FederatedService

    response = await wire.receive()
    return response.operation, FederatedService.FromString(response.resource.value).fqdn, response.nonce


async def test_a_plain_v1alpha1_consumer_gets_the_catalog_one_by_one(west: Mesh, east: Mesh) -> None:
    for name in ("a", "b"):
        west.write_service(name)
    west.configure({"east": east.peer(address=None)})
    async with running(west), dialling(east, west, "v1alpha1") as wire:
        await wire.send(subscribe_one())
        operation, first, nonce = await next_one(wire)
        assert operation == CREATE
        second = asyncio.create_task(next_one(wire))
        await stays(lambda: not second.done(), seconds=0.3, what="one message is in flight")
        await wire.send(ack_one(nonce))
        operation, other, _ = await second
        assert operation == CREATE
        assert {first, other} == {"a.west.example", "b.west.example"}


async def test_changes_reach_a_v1alpha1_consumer_as_create_update_delete(west: Mesh, east: Mesh) -> None:
    west.write_service("a")
    west.configure({"east": east.peer(address=None)})
    async with running(west), dialling(east, west, "v1alpha1") as wire:
        await wire.send(subscribe_one())

        async def step() -> tuple[int, str]:
            operation, fqdn, nonce = await next_one(wire)
            await wire.send(ack_one(nonce))
            return operation, fqdn

        assert await step() == (1, "a.west.example")
        west.write_service("a", tag="v2")
        assert await step() == (UPDATE, "a.west.example")
        west.write_service("b")
        assert await step() == (1, "b.west.example")
        west.remove_service("a")
        assert await step() == (DELETE_ONE, "a.west.example")


async def test_a_nack_with_unavailable_is_tried_again_and_holds_up_nothing(
    west: Mesh, east: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first leaves the others time to come, wherever the machine stands still.
    monkeypatch.setattr(backoff, "delay", lambda attempt, _: 0.1 if attempt else 5.0)
    for name in ("a", "b", "c"):
        west.write_service(name)
    west.configure({"east": east.peer(address=None)})
    tried: list[str] = []
    async with running(west) as agent, dialling(east, west, "v1alpha1") as wire:
        await wire.send(subscribe_one())
        refused = ""
        while len(tried) < 5:
            _, fqdn, nonce = await next_one(wire)
            refused = refused or fqdn
            tried.append(fqdn)
            fails = fqdn == refused and tried.count(fqdn) < 3
            await wire.send(ack_one(nonce, 14 if fails else 0, "any error at all"))
        assert len(set(tried[:3])) == 3, "the others do not wait for the one that failed"
        assert tried[3:] == [refused, refused]
        await agent.state("east", "exports", "live")


async def test_a_nack_with_invalid_argument_is_reported_and_not_sent_again_until_it_changes(
    west: Mesh, east: Mesh
) -> None:
    west.write_service("a")
    west.configure({"east": east.peer(address=None)})
    async with running(west) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two())
        first = await wire.until(lambda m: m.HasField("response"))
        await wire.send(ack(first.response.nonce, 3, "we do not like its name"))
        await eventually(
            lambda: agent.peer("east")["exports"]["rejected"] == {"a.west.example": "we do not like its name"}
        )
        again = asyncio.create_task(wire.until(lambda m: m.HasField("response")))
        await stays(lambda: not again.done(), seconds=2.5, what="it is not sent again")
        west.write_service("a", tag="v2")
        response = (await again).response
        assert response.resource_id == "a.west.example"
        await wire.send(ack(response.nonce))
        await eventually(lambda: not agent.peer("east")["exports"]["rejected"])


async def test_an_ack_may_lack_resource_url_and_status(west: Mesh, east: Mesh) -> None:
    for name in ("a", "b"):
        west.write_service(name)
    west.configure({"east": east.peer(address=None)})
    async with running(west) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two())
        for _ in range(2):
            response = (await wire.until(lambda m: m.HasField("response"))).response
            bare = two.StreamRequest(response_nonce=response.nonce)
            await wire.send(two.BidirectionalStream(request=bare))
        found = await agent.state("east", "exports", "live")
        assert found["exports"]["rejected"] == {}


async def test_a_removal_reaches_a_v1alpha2_consumer_as_delete_by_id(west: Mesh, east: Mesh) -> None:
    west.write_service("a")
    west.configure({"east": east.peer(address=None, context="shop")})
    async with running(west), dialling(east, west) as wire:
        await wire.send(subscribe_two("shop"))
        response = (await wire.until(lambda m: m.HasField("response"))).response
        assert response.context == "shop"
        await wire.send(ack(response.nonce))
        west.remove_service("a")
        response = (await wire.until(lambda m: m.HasField("response"))).response
        assert (response.operation, response.resource_id) == (DELETE_TWO, "a.west.example")


async def test_the_wrong_context_is_refused_in_so_many_words(west: Mesh, east: Mesh) -> None:
    west.configure({"east": east.peer(address=None, context="shop")})
    async with running(west) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two("bank"))
        code, reason = await wire.ended()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "'bank'" in reason
        await eventually(lambda: "peers.east.context" in agent.peer("east")["last_error"])


async def test_a_consumer_that_never_answers_is_cut_off_and_the_others_get_everything(
    west: Mesh, east: Mesh, make_mesh
) -> None:  # type: ignore[no-untyped-def]
    north = make_mesh("north")
    for number in range(300):
        west.write_service(f"s{number}")
    west.configure({"east": east.peer(address=None, ack_timeout="5s"), "north": north.peer(address=None)})
    async with running(west) as agent, dialling(east, west) as silent, dialling(north, west) as good:
        await silent.send(subscribe_two())
        await good.send(subscribe_two())
        names = set()
        while len(names) < 300:
            response = (await good.until(lambda m: m.HasField("response"))).response
            names.add(response.resource_id)
            await good.send(ack(response.nonce))
        code, reason = await silent.ended()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "has not answered" in reason
        await agent.state("north", "exports", "live")


async def test_a_consumer_that_never_reads_is_cut_off(west: Mesh, east: Mesh) -> None:
    for number in range(60):
        west.write_service(f"s{number}", tag="x" * 60_000)
    west.configure({"east": east.peer(address=None, ack_timeout="2s")})
    window = {"grpc.http2.lookahead_bytes": 0}
    async with running(west) as agent, dialling(east, west, **window) as wire:
        await wire.send(subscribe_two())
        await eventually(lambda: agent.agent.peerings["east"].streams, what="the stream is up")
        await eventually(lambda: not agent.agent.peerings["east"].streams, what="it is cut off")


async def test_until_every_registry_has_reported_the_owner_says_unavailable_instead_of_nothing(
    west: Mesh, east: Mesh
) -> None:
    west.configure({"east": east.peer(address=None)})
    (west.folder / "mesh").rename(west.folder / "gone")
    async with running(west, ready=False) as agent, dialling(east, west) as wire:
        await wire.send(subscribe_two())
        code, _ = await wire.ended()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "registry" in agent.agent.not_ready
