"""Owners of other makes, each misbehaving in one way that real ones do. The agent under test consumes.

It is that of east, whose trust domain sorts first: it dials without waiting to be dialled.
"""

from __future__ import annotations

import asyncio

import pytest

from hamlet_core.rpc import health
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha2 import resourcediscovery_pb2 as two
from tests.support.meshes import Mesh, eventually, running, stays
from tests.support.scripted import (
    DELETE_ONE,
    UPDATE,
    URL,
    Wire,
    delete,
    response_one,
    service_one,
    service_two,
    serving,
    upsert,
)


async def idle(wire: Wire) -> None:
    """Keep the stream open and read until it ends."""
    while await wire.receive() is not None:
        pass


async def open_end(wire: Wire) -> None:
    """Keep the stream open for as long as the other side wants."""
    del wire
    await asyncio.Event().wait()


async def test_a_v1alpha1_owner_may_leave_every_nonce_empty(west: Mesh, east: Mesh) -> None:
    answers = []

    async def owner(wire: Wire) -> None:
        first = await wire.receive()
        assert (first.resource_url, first.response_nonce) == (URL["v1alpha1"], "")
        for name in ("a.west.example", "b.west.example"):
            await wire.send(response_one(service_one(name), nonce=""))
            answers.append(await wire.receive())
        await open_end(wire)

    east.configure({"west": west.peer(api="v1alpha1")})
    async with serving(west, east, v1alpha1=owner), running(east) as agent:
        await eventually(lambda: len(answers) == 2)
        await agent.state("west", "imports", "live")
        assert east.imported_names("west") == {"a.west.example", "b.west.example"}
        assert [(a.response_nonce, a.status.code) for a in answers] == [("", 0), ("", 0)]


async def test_a_catalog_ends_with_silence_where_the_owner_does_not_say_so(west: Mesh, east: Mesh) -> None:
    catalogs = iter(["abcde", "abcd"])

    async def owner(wire: Wire) -> None:
        catalog = next(catalogs)
        await wire.receive()
        for name in catalog:
            await wire.send(response_one(service_one(f"{name}.west.example")))
            await wire.receive()
        if "e" in catalog:
            await stop_first.wait()
        else:
            await open_end(wire)

    stop_first = asyncio.Event()
    east.configure({"west": west.peer(api="v1alpha1")})
    async with serving(west, east, v1alpha1=owner), running(east) as agent:
        await eventually(lambda: len(east.imported_names("west")) == 5)
        stop_first.set()
        await eventually(
            lambda: len(east.imported_names("west")) == 4, what="e is inferred gone after the second catalog"
        )
        assert (await agent.state("west", "imports", "live"))["imports"]["held"] == {}


async def test_an_empty_catalog_is_silence_too_and_what_it_would_remove_is_held(west: Mesh, east: Mesh) -> None:
    full = True

    async def owner(wire: Wire) -> None:
        await wire.receive()
        if full:
            await wire.send(response_one(service_one("a.west.example")))
            await wire.receive()
            await again.wait()
        else:
            await open_end(wire)

    again = asyncio.Event()
    east.configure({"west": west.peer(api="v1alpha1")})
    async with serving(west, east, v1alpha1=owner), running(east) as agent:
        await eventually(lambda: east.imported_names("west"))
        full = False
        again.set()
        held = await agent.state("west", "imports", "held")
        assert set(held["imports"]["held"]) == {"a.west.example"}
        assert east.imported_names("west") == {"a.west.example"}
        assert agent.agent.importer.confirm("west") == 1
        await eventually(lambda: not east.imported_names("west"), what="the removal passes once it is confirmed")


async def test_create_of_the_known_update_and_delete_of_the_unknown_are_taken_as_they_are_meant(
    east: Mesh, west: Mesh
) -> None:
    codes = []

    async def owner(wire: Wire) -> None:
        await wire.receive()
        tagged = service_one("a.west.example", tags=["new"])
        for message in (
            response_one(service_one("a.west.example")),
            response_one(tagged),  # CREATE again
            response_one(service_one("b.west.example"), UPDATE),  # never created
            response_one(service_one("c.west.example"), DELETE_ONE),  # never known
        ):
            await wire.send(message)
            codes.append((await wire.receive()).status.code)
        await open_end(wire)

    east.configure({"west": west.peer(api="v1alpha1")})
    async with serving(west, east, v1alpha1=owner), running(east) as agent:
        await eventually(lambda: len(codes) == 4)
        await agent.state("west", "imports", "live")
        assert codes == [0, 0, 0, 0]
        assert east.imported_names("west") == {"a.west.example", "b.west.example"}
        assert "new" in east.imported("west")["a.west.example"]


async def test_a_v1alpha2_delete_of_an_unknown_id_is_acknowledged(west: Mesh, east: Mesh) -> None:
    codes = []

    async def owner(wire: Wire) -> None:
        await wire.send(delete("never.west.example", nonce="d"))
        answer = await wire.until(lambda m: m.request.response_nonce == "d")
        codes.append(answer.request.status.code)
        await open_end(wire)

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east):
        await eventually(lambda: codes)
    assert codes == [0]


async def test_an_owner_may_push_before_our_first_request_has_arrived(west: Mesh, east: Mesh) -> None:
    async def owner(wire: Wire) -> None:
        await wire.send(upsert(service_two("early.west.example")))  # nothing read yet
        await idle(wire)

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east):
        await eventually(lambda: east.imported_names("west"))
        assert east.imported_names("west") == {"early.west.example"}


async def test_an_early_clean_end_is_a_failure_backed_off_and_reported(west: Mesh, east: Mesh) -> None:
    async def owner(wire: Wire) -> None:
        await wire.receive()

    east.configure({"west": west.peer(context="wrong", backoff_cap="1s")})
    async with serving(west, east, v1alpha2=owner) as server, running(east) as agent:
        await eventually(lambda: server.streams >= 2)
        error = agent.peer("west")["last_error"]
        assert "without an error" in error
        assert "peers.west.context" in error
        assert agent.agent.links["west"].attempts >= 1, "it backs off"


async def test_several_responses_may_be_under_way_at_once(west: Mesh, east: Mesh) -> None:
    answered: set[str] = set()

    async def owner(wire: Wire) -> None:
        for number in range(50):
            await wire.send(upsert(service_two(f"s{number}.west.example"), nonce=f"n{number}"))
        while len(answered) < 50:
            message = await wire.receive()
            if message.request.response_nonce:
                answered.add(message.request.response_nonce)
        await open_end(wire)

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east):
        await eventually(lambda: len(answered) == 50)
        assert len(east.imported_names("west")) == 50


async def test_an_owner_that_sends_faster_than_we_apply_is_slowed_down_and_loses_nothing(
    east: Mesh, west: Mesh
) -> None:
    count, sent = 3_000, 0

    async def owner(wire: Wire) -> None:
        nonlocal sent

        async def read() -> None:
            await idle(wire)

        reader = asyncio.create_task(read())
        for number in range(count):
            await wire.send(
                upsert(service_two(f"s{number}.west.example", description="x" * 2_000), nonce=str(number))
            )
            sent = number + 1
        await reader

    east.configure({"west": west.peer(quiet="2s")})
    async with serving(west, east, v1alpha2=owner), running(east) as agent:
        await eventually(lambda: len(east.imported_names("west")) > 0)
        await eventually(lambda: len(east.imported_names("west")) == count, within=90)
        await agent.state("west", "imports", "live")
        assert sent == count


async def test_an_owner_that_never_reads_our_answers_stalls_nobody(west: Mesh, east: Mesh) -> None:
    async def owner(wire: Wire) -> None:
        for number in range(500):
            await wire.send(upsert(service_two(f"s{number}.west.example"), nonce="x" * 2_000))
        await open_end(wire)  # it has read nothing at all

    east.configure({"west": west.peer()})
    async with serving(west, east, v1alpha2=owner), running(east):
        await eventually(lambda: len(east.imported_names("west")) == 500, within=60)


async def test_a_service_that_breaks_a_rule_is_refused_with_the_reason_and_the_rest_goes_on(
    east: Mesh, west: Mesh
) -> None:
    answers: dict[str, tuple[int, str]] = {}
    endpoint = two.StreamResponse  # only for the type's module; the endpoints are below
    del endpoint
    bad_port = service_two("port.west.example")
    bad_port.endpoints[0].port = 0
    metadata = service_two("metadata.west.example")
    metadata.endpoints[0].address = "169.254.169.254"
    cases = {
        "good": service_two("good.west.example"),
        "name": service_two("under_score.west.example"),
        "port": bad_port,
        "metadata": metadata,
        "ours": service_two("orders.east.example"),
        "unaccepted": service_two("a.other.example"),
        "large": service_two("large.west.example", description="x" * 300_000),
        "last": service_two("last.west.example"),
    }

    async def owner(wire: Wire) -> None:
        for nonce, service in cases.items():
            await wire.send(upsert(service, nonce=nonce))
            answer = await wire.until(lambda m, nonce=nonce: m.request.response_nonce == nonce)
            answers[nonce] = (answer.request.status.code, answer.request.status.message)
        await open_end(wire)

    east.write_service("orders")
    east.configure({"west": west.peer(accept=["*.west.example", "*.east.example"])})
    async with serving(west, east, v1alpha2=owner), running(east) as agent:
        await eventually(lambda: len(answers) == len(cases))
        assert east.imported_names("west") == {"good.west.example", "last.west.example"}
        rejected = agent.peer("west")["imports"]["rejected"]
    assert answers["good"] == answers["last"] == (0, "")
    invalid = {nonce: message for nonce, (code, message) in answers.items() if code == 3}
    assert invalid.keys() == cases.keys() - {"good", "last"}
    assert set(rejected) == {cases[nonce].name for nonce in invalid}
    for nonce, word in {
        "name": "under_score", "port": "port", "metadata": "169.254.169.254", "ours": "east.example",
        "unaccepted": "accept", "large": "max_message_bytes",
    }.items():  # fmt: skip
        assert word in invalid[nonce], invalid[nonce]


async def test_a_peer_over_its_quota_keeps_what_it_has_and_is_told_why_no_more_is_taken(
    east: Mesh, west: Mesh
) -> None:
    answers: list[tuple[int, str]] = []

    async def owner(wire: Wire) -> None:
        for number in range(5):
            await wire.send(upsert(service_two(f"s{number}.west.example"), nonce=str(number)))
            answer = await wire.until(lambda m, n=number: m.request.response_nonce == str(n))
            answers.append((answer.request.status.code, answer.request.status.message))
        await wire.send(upsert(service_two("s0.west.example", tags=["changed"]), nonce="again"))
        answer = await wire.until(lambda m: m.request.response_nonce == "again")
        answers.append((answer.request.status.code, ""))
        await open_end(wire)

    east.configure({"west": west.peer(max_services=3)})
    async with serving(west, east, v1alpha2=owner), running(east):
        await eventually(lambda: len(answers) == 6)
        assert [code for code, _ in answers] == [0, 0, 0, 3, 3, 0]
        assert "max_services" in answers[3][1]
        assert len(east.imported_names("west")) == 3


@pytest.mark.parametrize("api", ["v1alpha2", "auto"])
async def test_auto_falls_back_to_v1alpha1_and_nothing_else_does(east: Mesh, west: Mesh, api: str) -> None:
    async def owner(wire: Wire) -> None:
        await wire.receive()
        await wire.send(response_one(service_one("a.west.example")))
        await open_end(wire)

    east.configure({"west": west.peer(api=api, backoff_cap="1s")})
    async with serving(west, east, v1alpha1=owner), running(east) as agent:
        if api == "auto":
            await eventually(lambda: east.imported_names("west"))
        else:
            await eventually(lambda: "UNIMPLEMENTED" in (agent.peer("west")["last_error"] or "").upper()
                             or "not found" in agent.peer("west")["last_error"].lower())  # fmt: skip
            assert not east.imported_names("west")


async def test_unauthenticated_stops_the_link_until_a_reload(east: Mesh, west: Mesh, make_mesh) -> None:  # type: ignore[no-untyped-def]
    other = make_mesh("north")

    async def owner(wire: Wire) -> None:
        import grpc

        await wire.call.abort(grpc.StatusCode.UNAUTHENTICATED, "you are not federated with us")

    east.configure({"west": west.peer(backoff_cap="1s"), "north": other.peer(address=None)})
    async with serving(west, east, v1alpha2=owner) as server, running(east) as agent:
        await agent.state("west", "imports", "rejected")
        assert "not federated" in agent.peer("west")["last_error"]
        dialled = server.streams
        await stays(lambda: server.streams == dialled, seconds=3, what="no further dial")
        east.configure({"west": west.peer(backoff_cap="1s")})
        await agent.reload()
        await eventually(lambda: server.streams > dialled, what="a reload makes it dial again")


async def test_an_idle_stream_to_an_owner_that_forbids_pings_lives_on(
    west: Mesh, east: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DEADLINE", 60.0)  # it is not the owner that may be slow here

    async def owner(wire: Wire) -> None:
        await wire.send(upsert(service_two("a.west.example")))
        await idle(wire)

    strict = [("grpc.http2.min_ping_interval_without_data_ms", 300_000), ("grpc.http2.max_ping_strikes", 1)]
    east.configure({"west": west.peer()})
    async with serving(west, east, options=strict, v1alpha2=owner) as server, running(east) as agent:
        await agent.state("west", "imports", "live")
        # Four intervals of our own question after its health: with pings it would have been cut twice over.
        await stays(lambda: server.open == 1 and server.streams == 1, seconds=21)
        assert (await agent.state("west", "imports", "live"))["streams"]
