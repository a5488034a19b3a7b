"""Is the owner we dialled still there? Asked of its health service, never by pings.

A foreign server may end connections that ping more often than it likes, and what it likes is unknown;
`grpc.health.v1.Health/Check` with a deadline has no such limit. Any answer means alive, UNIMPLEMENTED too.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hamlet_core.rpc.stream import PeerStream

INTERVAL = 5.0
DEADLINE = 5.0
"""Seconds; together they bound the time in which a stopped peer is noticed."""

_SILENT = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


async def ask_health(channel: grpc.aio.Channel, stream: PeerStream) -> bool:
    """Whether the peer answers within `DEADLINE` seconds; ends `stream` if it does not."""
    try:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
    except grpc.aio.AioRpcError as error:
        if error.code() in _SILENT:
            stream.end(grpc.StatusCode.UNAVAILABLE, f"the peer does not answer ({error.details()})")
            return False
    return True


async def watch_health(channel: grpc.aio.Channel, stream: PeerStream) -> None:
    """Ask every `INTERVAL` seconds, until the stream ends."""
    while stream.open:
        await asyncio.sleep(INTERVAL)
        await ask_health(channel, stream)
