"""Certificates and bundles change under running agents: what still holds stays up, what does not is closed."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest

from hamlet_core.api.testing.minting import Mint
from hamlet_core.identity.spiffe import IdentityError

EAST_ID, WEST_ID = "spiffe://east.example/hamlet/agent", "spiffe://west.example/hamlet/agent"
UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE


def now():
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
def acquainted(west, east):
    west.trust("east", east.authority)
    east.trust("west", west.authority)


@pytest.fixture
async def standing(west, east, serve, dial):
    """A stream that has carried a message in both directions."""
    server = await serve(east)
    dialled = await dial(west, "east", server.address)
    stream = dialled.stream()
    await echoes(stream, b"first")
    return server, dialled, stream


async def echoes(stream, message):
    async with asyncio.timeout(20):
        await stream.write(message)
        assert await stream.read() == message


async def test_a_stream_outlives_new_certificates_of_the_same_authorities(west, east, standing):
    server, dialled, stream = standing
    west.present(west.authority.leaf("spiffe://west.example/hamlet/next"))
    east.present(east.authority.leaf("spiffe://east.example/hamlet/next"))
    assert server.source.reload()
    assert dialled.source.reload()
    assert not dialled.tunnel.recheck(now())
    assert not server.interceptor.recheck(now())
    await echoes(stream, b"second")


async def test_new_connections_use_the_new_certificates_of_both_sides(west, east, standing, dial):
    server, dialled, _ = standing
    west.present(west.authority.leaf("spiffe://west.example/hamlet/next"))
    east.present(east.authority.leaf("spiffe://east.example/hamlet/next"))
    server.source.reload()
    again = await dial(west, "east", server.address)
    assert await again.ask() == "west spiffe://west.example/hamlet/next"
    assert again.tunnel.identity == "spiffe://east.example/hamlet/next"
    assert dialled.tunnel.identity == EAST_ID, "what stands was proven at its own handshake"


async def test_a_running_tunnel_dials_with_what_was_reloaded(west, east, serve, dial, refused, until):
    server = await serve(east)
    west.present(Mint("mallory").leaf(WEST_ID))
    dialled = await dial(west, "east", server.address)
    assert (await refused(dialled))[0] is UNAVAILABLE
    west.present(west.authority.leaf(WEST_ID))
    dialled.source.reload()
    # gRPC dials again after its own second of backoff
    answer = await dialled.channel.unary_unary("/test.Echo/Ask", None, None)(b"", wait_for_ready=True, timeout=20)
    assert answer == f"west {WEST_ID}".encode()
    assert dialled.tunnel.last_error is None


async def test_the_server_admits_a_peer_s_new_authority_without_a_restart(west, east, serve, dial, refused):
    server = await serve(east)
    new = Mint("west authority, next year")
    west.present(new.leaf(WEST_ID))
    assert (await refused(await dial(west, "east", server.address)))[0] is UNAVAILABLE
    east.trust("west", west.authority, new)
    assert server.source.reload()
    assert await (await dial(west, "east", server.address)).ask() == f"west {WEST_ID}"


async def test_a_broken_rotation_of_the_server_keeps_what_it_had(west, east, serve, dial):
    server = await serve(east)
    east.key.write_bytes(Mint("other").leaf().key_pem)
    assert not server.source.reload()
    assert server.source.problems
    assert await (await dial(west, "east", server.address)).ask() == f"west {WEST_ID}"


async def test_the_dialling_side_closes_what_its_bundle_no_longer_vouches_for(west, standing, until):
    _, dialled, stream = standing
    west.trust("east", Mint("east authority, the other one"))
    assert dialled.source.reload()
    await echoes(stream, b"a reload alone closes nothing")
    assert dialled.tunnel.recheck(now())
    async with asyncio.timeout(20):
        assert await stream.code() is UNAVAILABLE
    await until(lambda: dialled.tunnel.identity is None)
    assert isinstance(dialled.tunnel.last_error, IdentityError)
    assert "not trusted any more" in str(dialled.tunnel.last_error)


async def test_the_dialling_side_keeps_what_an_extended_bundle_still_vouches_for(west, east, standing):
    _, dialled, stream = standing
    west.trust("east", Mint("east authority, next year"), east.authority)
    assert dialled.source.reload()
    assert not dialled.tunnel.recheck(now())
    await echoes(stream, b"second")


async def test_the_accepting_side_ends_the_streams_of_a_removed_authority(east, standing, until):
    server, _, stream = standing
    east.trust("west", Mint("west authority, the other one"))
    assert server.source.reload()
    await echoes(stream, b"a reload alone ends nothing")
    assert server.interceptor.recheck(now())
    async with asyncio.timeout(20):
        assert await stream.code() is UNAUTHENTICATED
    assert "not trusted any more" in await stream.details()
    assert [type(error) for error in server.ended] == [asyncio.CancelledError]
    assert server.refusals == [f"{WEST_ID} is not trusted any more"]
    await until(lambda: not server.interceptor.recheck(now()), "the stream is forgotten")


async def test_the_accepting_side_ends_only_those_streams(west, east, standing, dial, tmp_path):
    server, _, stream = standing
    north = Mint("north authority")
    east.trust("north", north)
    server.source.configure(server.source._state.identity, east.peers)
    west.present(north.leaf("spiffe://north.example/hamlet/agent"))
    other = (await dial(west, "east", server.address)).stream()
    await echoes(other, b"north")
    east.trust("north", Mint("north authority, the other one"))
    server.source.reload()
    assert server.interceptor.recheck(now())
    async with asyncio.timeout(20):
        assert await other.code() is UNAUTHENTICATED
    await echoes(stream, b"west is still there")


async def test_a_stream_of_a_peer_that_was_removed_is_ended(east, standing):
    server, _, stream = standing
    server.source.configure(server.source._state.identity, {})
    assert server.interceptor.recheck(now())
    async with asyncio.timeout(20):
        assert await stream.code() is UNAUTHENTICATED


async def test_an_ordinary_cancellation_is_none_of_the_interceptor_s_business(standing, until):
    server, _, stream = standing
    stream.cancel()
    await until(lambda: not server.interceptor._standing)
    assert server.refusals == []


async def test_files_that_change_reach_both_sides_by_themselves(west, east, serve, dial, until):
    """The whole of it, with real file events and nobody calling reload."""
    server = await serve(east)
    dialled = await dial(west, "east", server.address)
    stream = dialled.stream()
    await echoes(stream, b"first")
    watches = [
        asyncio.create_task(server.source.watch(lambda: server.interceptor.recheck(now()))),
        asyncio.create_task(dialled.source.watch(lambda: dialled.tunnel.recheck(now()))),
    ]
    try:
        east.trust("west", Mint("west authority, the other one"))
        async with asyncio.timeout(90):
            assert await stream.code() is UNAUTHENTICATED
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
