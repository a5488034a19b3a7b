"""The reference: bare grpc.aio over mutual TLS that moves the bytes an owner and its consumer would move.

Nothing is parsed, stored or decided. The consumer's side is also what plays a foreign consumer towards our
owner, so between the two only the owner differs; the owner's side plays a plain foreign owner towards our
consumer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc.aio import EOF  # type: ignore[attr-defined]  # the stubs do not have it

from bench.meshes import Mesh
from bench.workers import resident
from hamlet_core.rpc.server import CODECS, METHOD

LARGEST = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
PATHS = {codec.api: f"/{codec.service}/{METHOD}" for codec in CODECS}

Gap = tuple[float, float]
"""Seconds between two messages: drawn from the range."""


@dataclass(slots=True)
class _Work:
    """What each stream of a bare owner does, and what came of it."""

    frames: Sequence[bytes]
    window: int = 1
    gap: Gap | None = None
    ended: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class BareOwner:
    """A server whose streams, once something was asked of them, send frames and take an answer for each."""

    def __init__(self) -> None:
        self._server: grpc.aio.Server | None = None
        self._work = _Work(())

    async def open(self, mesh: Mesh, clients: Sequence[Mesh]) -> None:
        """Serve at the mesh's address."""
        self._server = grpc.aio.server(options=[*LARGEST, ("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(self._stream)
        for codec in CODECS:
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(codec.service, {METHOD: handler})]
            )
        self._server.add_secure_port(mesh.address, mesh.server_credentials(clients))
        await self._server.start()

    async def close(self) -> None:
        """Stop to serve."""
        if self._server is not None:
            await self._server.stop(None)
        self._server = None

    async def load(self, frames: Sequence[bytes], *, window: int = 1, gap: Gap | None = None) -> None:
        """What the streams that come now are to send."""
        self._work = _Work(frames, window, gap)

    async def ended(self, streams: int) -> float:
        """Wait until so many streams have had all their answers; the monotonic time of the last one."""
        while len(self._work.ended) < streams:
            self._work.changed.clear()
            await self._work.changed.wait()
        return max(self._work.ended)

    async def round_trips(self) -> list[float]:
        """Seconds from each frame to its answer."""
        return self._work.round_trips

    async def resident(self) -> int:
        """Bytes of memory resident."""
        return resident()

    async def _stream(self, requests: Any, call: Any) -> None:
        del requests
        work = self._work
        await call.read()
        if work.gap is not None:
            await _spaced(call, work, work.gap)
        elif work.window == 1:
            for frame in work.frames:
                await call.write(frame)
                await _answer(call)
        else:
            await _windowed(call, work)
        work.ended.append(time.monotonic())
        work.changed.set()
        while await call.read() is not EOF:
            pass


async def _answer(call: Any) -> None:
    if await call.read() is EOF:
        message = "the consumer went before it had answered everything"
        raise ConnectionError(message)


async def _spaced(call: Any, work: _Work, gap: Gap) -> None:
    for frame in work.frames:
        await asyncio.sleep(random.uniform(*gap))
        began = time.monotonic()
        await call.write(frame)
        await _answer(call)
        work.round_trips.append(time.monotonic() - began)


async def _windowed(call: Any, work: _Work) -> None:
    room = asyncio.Semaphore(work.window)

    async def take() -> None:
        for _ in work.frames:
            await _answer(call)
            room.release()

    taking = asyncio.ensure_future(take())
    for frame in work.frames:
        await room.acquire()
        await call.write(frame)
    await taking


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a bare consumer does: the first frame, then one answer per message, in order. `window` is offered."""

    api: str
    first: bytes
    answers: Sequence[bytes]
    window: int = 1

    @property
    def passed_over(self) -> bytes:
        """The first byte of frames that get no answer: `request` of v1alpha2, by which an owner asks us in turn."""
        return b"\x0a" if self.api == "v1alpha2" else b""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What it offers; a plain peer offers nothing."""
        return (("hamlet-extensions", f"window={self.window}"),) if self.window > 1 else ()


class BareConsumers:
    """Clients, each of a mesh of its own, that answer what they are sent; their streams stand until `close`."""

    def __init__(self) -> None:
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []

    async def walk(self, target: Mesh, meshes: Sequence[Mesh], script: Script, *, connected: bool = False) -> float:
        """Dial, ask, answer all; returns the monotonic time at which it began.

        That is before the first connection, or with `connected` once all stand.
        """
        began = time.monotonic()
        channels = [self._open(target, mesh) for mesh in meshes]
        if connected:
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            began = time.monotonic()
        await asyncio.gather(*(self._answer(channel, script) for channel in channels))
        return began

    async def be_silent(self, target: Mesh, mesh: Mesh, script: Script) -> None:
        """Subscribe, and neither read nor answer from then on."""
        await self._ask(self._open(target, mesh), script)

    async def close(self) -> None:
        """End every stream."""
        for call in self._calls:
            call.cancel()
        for channel in self._channels:
            await channel.close(None)
        self._calls, self._channels = [], []

    def _open(self, target: Mesh, mesh: Mesh) -> grpc.aio.Channel:
        options: list[Any] = [*LARGEST, *target.target_options, ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.secure_channel(target.address, mesh.client_credentials(target), options=options)
        self._channels.append(channel)
        return channel

    async def _ask(self, channel: grpc.aio.Channel, script: Script) -> Any:
        call: Any = channel.stream_stream(PATHS[script.api], None, None)(
            None, metadata=grpc.aio.Metadata(*script.metadata)
        )
        self._calls.append(call)
        await call.write(script.first)
        return call

    async def _answer(self, channel: grpc.aio.Channel, script: Script) -> None:
        call = await self._ask(channel, script)
        for number, answer in enumerate(script.answers):
            frame = await call.read()
            while frame is not EOF and frame[:1] == script.passed_over:
                frame = await call.read()
            if frame is EOF:
                message = f"the owner ended the stream after {number} of {len(script.answers)} messages"
                raise ConnectionError(f"{message}: {await call.code()} {await call.details()}")
            await call.write(answer)
