"""One gRPC stream with one peer: its reader, its one writer at a time, and the roles that run on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
import structlog
from grpc.aio import EOF  # type: ignore[attr-defined]  # the stubs do not have it

from hamlet_core.config.model import Peer
from hamlet_core.publish.catalog import Subscription
from hamlet_core.rpc.consumer import ConsumerSession, ImportSink
from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.extensions import Extensions
from hamlet_core.rpc.owner import OwnerSession
from hamlet_core.wire.messages import Answer, Codec, Message, Subscribe, WireError

log = structlog.get_logger()

CLOSED_CLEANLY = grpc.StatusCode.OK


class Call(Protocol):
    """What a client's call and a server's context have in common: frames in, frames out."""

    async def read(self) -> Any:
        """The next frame, or `grpc.aio.EOF`."""

    async def write(self, frame: bytes) -> None:
        """Send a frame; waits for the flow control of HTTP/2."""


class PeerStream:
    """A stream that is up. `dialled` says that we opened it; `run` returns how it ended.

    Of the roles it may carry, `subscribe` starts ours as consumer, `publish` ours as owner.
    """

    def __init__(
        self,
        call: Call,
        codec: Codec,
        *,
        peer: str,
        settings: Peer,
        dialled: bool,
        extensions: Extensions,
        sink: ImportSink,
        on_subscribe: Callable[[PeerStream, Subscribe], None],
        on_proven: Callable[[PeerStream], None],
    ) -> None:
        self._call = call
        self.codec = codec
        self.peer = peer
        self.settings = settings
        self.dialled = dialled
        self.extensions = extensions
        self.since = datetime.now(UTC)
        self._on_subscribe = on_subscribe
        self._on_proven = on_proven
        self._write_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[StreamEnd] = asyncio.get_running_loop().create_future()
        self._owner_task: asyncio.Task[None] | None = None
        self._closer: asyncio.TimerHandle | None = None
        self.owner: OwnerSession | None = None
        self.consumer: ConsumerSession | None = None
        self.proven = False
        if codec.bidirectional or dialled:
            self.consumer = ConsumerSession(
                peer,
                codec,
                sink,
                self._write,
                context=settings.context,
                extensions=lambda: self.extensions,
                quiet=settings.quiet.total_seconds(),
                write_timeout=settings.ack_timeout.total_seconds(),
            )

    async def run(self) -> StreamEnd:
        """Read and dispatch until the stream ends; leaves no task behind."""
        loops = (self._read(), *(self.consumer.loops() if self.consumer else ()))
        for loop in loops:
            self._spawn(loop)
        try:
            return await self._end
        finally:
            if self._closer:
                self._closer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        """Let the stream end with this; the first reason stands."""
        if not self._end.done():
            self._end.set_result(StreamEnd(code, reason))

    def negotiated(self, extensions: Extensions) -> None:
        """The other side's metadata came: these extensions are agreed, and it is known to serve both roles."""
        self.extensions = extensions
        if self.owner:
            self.owner.extensions_changed()
        if extensions.snapshot:
            self._prove()

    def _prove(self) -> None:
        """The peer is an owner on this stream: it said so, or it sent something."""
        if not self.proven:
            self.proven = True
            self._on_proven(self)

    def subscribe(self) -> None:
        """Ask for the peer's catalog on this stream."""
        assert self.consumer is not None
        self.consumer.activate()
        self._spawn(self.consumer.subscribe())

    @property
    def consuming(self) -> bool:
        """Whether this stream carries the peer's catalog to us."""
        return self.consumer is not None and self.consumer.active

    def publish(self, subscription: Subscription) -> None:
        """Publish to the peer on this stream, from the beginning of `subscription`."""
        self.unpublish()
        self.owner = OwnerSession(
            self.codec,
            subscription,
            self._write,
            context=self.settings.context,
            extensions=lambda: self.extensions,
            ack_timeout=self.settings.ack_timeout.total_seconds(),
        )
        self._owner_task = self._spawn(self.owner.run())

    def unpublish(self) -> None:
        """Stop publishing on this stream: the peer has subscribed on a newer one."""
        if self._owner_task is not None:
            self._owner_task.cancel()
            self._owner_task = None
        self.owner = None

    def close_when_idle(self, seconds: float) -> None:
        """End the stream unless it carries a role by then: another one carries both."""
        if self._closer:
            self._closer.cancel()

        def close() -> None:
            if self.owner is None and not self.consuming:
                self.end(CLOSED_CLEANLY, "another stream carries both directions")

        self._closer = asyncio.get_running_loop().call_later(seconds, close)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, StreamEnd):
            self.end(error.code, error.reason)
        elif isinstance(error, grpc.aio.AioRpcError):
            self.end(error.code(), error.details() or f"the peer ended the stream with {error.code().name}")
        elif isinstance(error, grpc.RpcError | asyncio.InvalidStateError):
            self.end(grpc.StatusCode.UNAVAILABLE, f"the stream broke: {error!s}")
        else:
            log.error("a stream's task crashed", peer=self.peer, exc_info=error)
            self.end(grpc.StatusCode.INTERNAL, f"internal error: {error!r}")

    async def _write(self, frame: bytes) -> None:
        async with self._write_lock:
            await self._call.write(frame)

    async def _read(self) -> None:
        while True:
            frame = await self._call.read()
            if frame is EOF:
                raise StreamEnd(CLOSED_CLEANLY, "the peer ended the stream")
            try:
                messages = self.codec.read(frame, from_server=self.dialled)
            except WireError as error:
                raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
            for message in messages:
                await self._dispatch(message, len(frame))

    async def _dispatch(self, message: Message, size: int) -> None:
        if isinstance(message, Subscribe):
            if self.owner is not None and self.owner.unanswered:
                self.owner.answered(Answer(""))  # an ACK that repeats neither nonce nor status
            else:
                self._on_subscribe(self, message)
        elif isinstance(message, Answer):
            if self.owner is not None:
                self.owner.answered(message)
        elif self.consumer is not None:
            self._prove()
            await self.consumer.take(message, size)
