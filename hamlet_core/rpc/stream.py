"""One gRPC stream with one peer: its reader, its one writer at a time, and the roles that run on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

import grpc
import structlog
from grpc.aio import EOF  # type: ignore[attr-defined]  # the stubs do not have it

from hamlet_core.config.model import Peer
from hamlet_core.publish.catalog import Subscription
from hamlet_core.rpc.consumer import ConsumerSession, ImportSink
from hamlet_core.rpc.ends import CLOSED_CLEANLY, REDUNDANT, StreamEnd
from hamlet_core.rpc.extensions import PLAIN, Extensions
from hamlet_core.rpc.owner import OwnerSession
from hamlet_core.wire.messages import Answer, Codec, Message, Subscribe, WireError

log = structlog.get_logger()


async def _always() -> bool:
    return True


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
        self._nonces = count(1)
        self._closer: asyncio.TimerHandle | None = None
        self.owner: OwnerSession | None = None
        self.consumer: ConsumerSession | None = None
        self.proven = False
        """Whether the peer is known to be an owner on this stream."""
        self.alive: Callable[[], Awaitable[bool]] = _always
        """Whether the peer answers at all, where we can ask."""
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
                silence_counts=self._silence_counts,
            )

    @property
    def open(self) -> bool:
        """Whether the stream can still take a role: it has not ended, and is not about to."""
        return not self._end.done()

    async def run(self, *beside: Coroutine[None, None, None]) -> StreamEnd:
        """Read and dispatch until the stream ends, and run `beside` as long; leaves no task behind."""
        loops = (self._read(), *(self.consumer.loops() if self.consumer else ()))
        for loop in (*loops, *beside):
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
        self._end_with(StreamEnd(code, reason))

    def _end_with(self, end: StreamEnd) -> None:
        if self.open:
            self._end.set_result(end)

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

    async def _silence_counts(self) -> bool:
        """Whether the peer's silence means that its catalog has ended.

        Not on a stream that the peer opened perhaps only to consume, when we can dial it: it owns there.
        """
        owns_here = self.dialled or self.proven or self.settings.address is None
        return owns_here and await self.alive()

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
            nonces=self._nonces,
        )
        self._spawn(self.owner.run())

    def unpublish(self) -> None:
        """Stop publishing on this stream: the peer has subscribed anew, or on another one.

        Not by cancelling: gRPC ends a whole call when one write of it is cancelled.
        """
        if self.owner is not None:
            self.owner.stop()
            self.owner = None

    def close_when_idle(self, seconds: float) -> None:
        """End the stream unless it carries a role by then: another one carries both."""
        if self._closer:
            self._closer.cancel()

        def close() -> None:
            if self.owner is None and not self.consuming:
                self._end_with(REDUNDANT)

        self._closer = asyncio.get_running_loop().call_later(seconds, close)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Not by us, or the stream has ended already: a call that is cancelled cancels who waits for it.
            self.end(grpc.StatusCode.CANCELLED, "the stream was cancelled")
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, StreamEnd):
            self._end_with(error)
        elif isinstance(error, grpc.aio.AioRpcError):
            self.end(error.code(), error.details() or f"the peer ended the stream with {error.code().name}")
        else:
            log.error("a stream's task crashed", peer=self.peer, exc_info=error)
            self.end(grpc.StatusCode.INTERNAL, f"internal error: {error!r}")

    async def _write(self, frame: bytes) -> None:
        async with self._write_lock:
            try:
                await self._call.write(frame)
            except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
                # The call is over; its status says why, and is not known here.
                raise StreamEnd(CLOSED_CLEANLY, "the peer ended the stream") from error

    async def _read(self) -> None:
        while True:
            try:
                frame = await self._call.read()
            except grpc.aio.BaseError as error:
                raise StreamEnd(CLOSED_CLEANLY, "the peer ended the stream") from error
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
            # An agent of our kind always answers with nonce and status: what it sends without is a request.
            if self.owner is not None and self.owner.unanswered and self.extensions == PLAIN:
                self.owner.answered(Answer(""))  # an ACK that repeats neither nonce nor status
            else:
                self._on_subscribe(self, message)
        elif isinstance(message, Answer):
            if self.owner is not None:
                self.owner.answered(message)
        elif self.consumer is not None:
            self._prove()
            await self.consumer.take(message, size)
