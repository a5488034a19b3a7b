"""The consumer's role on one stream: take what the owner sends, have it imported, answer each message.

Importing may be slow and the owner fast: a bounded queue makes the reader wait, and so, by the flow control
of HTTP/2, the owner. Answers wait in a queue of their own, because a peer that does not read must not
keep us from reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.extensions import Extensions
from hamlet_core.wire.messages import OK, Answer, Codec, FromOwner, Offer, SnapshotEnd, Unreadable, Withdraw

QUEUE = 1_024
"""Messages read and not yet imported; also the most that are imported in one go."""
ANSWERS = 65_536
"""Answers a peer may leave unread before its stream is closed."""
SILENCE_AFTER_REFUSAL = 60.0
"""Seconds of silence, at least, that end a catalog whose last message we could not take for now: until then
the owner may be waiting to send it again, and the rest after it."""
LOOK = 1.0
"""At most so many seconds pass between two looks at a silence that does not count yet."""

INVALID_ARGUMENT: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]
UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the owner about one service, and the size of its frame in bytes."""

    message: Offer | Withdraw | Unreadable
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the consumer answers: 0 once the change is in the registry, else a code and the reason."""

    code: int = OK
    reason: str = ""


class ImportSink(Protocol):
    """Where the messages of owners go: the importing half of the agent."""

    def begin(self, peer: str) -> None:
        """A stream is subscribed; what the owner sends from now on is its catalog anew."""

    async def deliver(self, peer: str, received: Sequence[Received]) -> Sequence[Verdict]:
        """Import; one verdict per message, in order, when its change is in the registry or is refused."""

    def complete(self, peer: str) -> None:
        """The catalog has been delivered in full: what is not in it is gone."""

    def lost(self, peer: str) -> None:
        """No stream is subscribed any more."""


class ConsumerSession:
    """Imports what one owner publishes, as long as `active`; passive, it refuses politely.

    Without the extension `snapshot` a silence of `quiet` seconds ends the catalog, provided that
    `silence_counts` says so then: that of a peer that is gone says nothing.
    """

    def __init__(
        self,
        peer: str,
        codec: Codec,
        sink: ImportSink,
        send: Callable[[bytes], Awaitable[None]],
        *,
        context: str,
        extensions: Callable[[], Extensions],
        quiet: float,
        write_timeout: float,
        silence_counts: Callable[[], Awaitable[bool]],
    ) -> None:
        self._peer = peer
        self._codec = codec
        self._sink = sink
        self._send = send
        self._context = context
        self._extensions = extensions
        self._quiet = quiet
        self._write_timeout = write_timeout
        self._silence_counts = silence_counts
        self._inbox: asyncio.Queue[tuple[FromOwner, int]] = asyncio.Queue(QUEUE)
        self._answers: asyncio.Queue[Answer] = asyncio.Queue(ANSWERS)
        self._last = 0.0
        self._importing = False
        self._refused_for_now = False  # the last message was
        self._offered = 0
        self._pending = asyncio.Event()  # subscribed, and the catalog has not ended yet
        self.active = False
        self.received = 0
        """Messages read, whatever became of them."""
        self.complete = False
        """Whether the catalog has come to its end since this session became active."""

    def activate(self) -> None:
        """Become the stream that carries the owner's catalog, from now on and anew."""
        self.active, self.complete = True, False
        self._offered, self._refused_for_now = 0, False
        self._sink.begin(self._peer)
        self._last = asyncio.get_running_loop().time()
        self._pending.set()

    async def subscribe(self) -> None:
        """Send the first request."""
        await self._write(self._codec.subscribe(self._context))

    def retire(self) -> None:
        """Another stream carries the catalog now."""
        self.active = False
        self._pending.clear()

    async def take(self, message: FromOwner, size: int) -> None:
        """Queue a message; waits while importing is behind."""
        self.received += 1
        await self._inbox.put((message, size))

    def loops(self) -> tuple[Coroutine[None, None, None], ...]:
        """What must run beside the reader; each raises `StreamEnd` for a peer that reads nothing."""
        return self._import(), self._answer(), self._end_when_quiet()

    async def _import(self) -> None:
        while True:
            batch = [await self._inbox.get()]
            self._importing = True
            while not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            await self._import_batch(batch)
            self._last = asyncio.get_running_loop().time()
            self._importing = False

    async def _import_batch(self, batch: list[tuple[FromOwner, int]]) -> None:
        services: list[Received] = []
        for message, size in batch:
            if isinstance(message, SnapshotEnd):
                await self._deliver(services)
                services = []
                # The end of an earlier walk on this stream, sent before we subscribed, comes too early.
                if self._offered >= message.services:
                    self._catalog_ended()
                self._queue_answer(Answer(message.nonce))
            else:
                services.append(Received(message, size))
        await self._deliver(services)

    async def _deliver(self, services: list[Received]) -> None:
        if not services:
            return
        if self.active:
            self._offered += sum(not isinstance(received.message, Withdraw) for received in services)
            verdicts = await self._sink.deliver(self._peer, services)
            self._refused_for_now = verdicts[-1].code == UNAVAILABLE
        else:
            verdicts = [Verdict(UNAVAILABLE, "another stream carries this catalog")] * len(services)
        for received, verdict in zip(services, verdicts, strict=True):
            self._queue_answer(Answer(received.message.nonce, verdict.code, verdict.reason))

    async def _end_when_quiet(self) -> None:
        while True:
            await self._pending.wait()
            rest = self._rest_of_silence()
            if rest <= 0:
                counts = await self._silence_counts()
                rest = self._rest_of_silence()  # something may have come meanwhile
                if counts and rest <= 0:
                    self._catalog_ended()
                    continue
                rest = max(rest, min(self._quiet, LOOK))
            await asyncio.sleep(min(rest, LOOK))  # a long silence is not due any more once the refused is taken

    def _rest_of_silence(self) -> float:
        """Seconds of silence that are still missing to the end of the catalog."""
        if self._extensions().snapshot or self._importing or not self._inbox.empty():
            return min(self._quiet, LOOK)
        needed = max(self._quiet, SILENCE_AFTER_REFUSAL) if self._refused_for_now else self._quiet
        return self._last + needed - asyncio.get_running_loop().time()

    def _catalog_ended(self) -> None:
        if self._pending.is_set():
            self._pending.clear()
            self.complete = True
            self._sink.complete(self._peer)

    def _queue_answer(self, answer: Answer) -> None:
        try:
            self._answers.put_nowait(answer)
        except asyncio.QueueFull as error:
            message = f"the peer has left {ANSWERS} answers unread"
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, message) from error

    async def _answer(self) -> None:
        while True:
            answer = await self._answers.get()
            await self._write(self._codec.answer(answer, self._context))

    async def _write(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._send(frame)
        except TimeoutError as error:
            message = f"the peer has read nothing for {self._write_timeout:g} s"
            raise StreamEnd(grpc.StatusCode.DEADLINE_EXCEEDED, message) from error
