"""The owner's role on one stream: walk the catalog's log, keep count of what is unanswered, try again.

It knows frames and answers, not gRPC: `send` writes a frame, `answered` takes what the consumer says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count

import grpc

from hamlet_core import backoff
from hamlet_core.publish.catalog import Entry, Subscription
from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.extensions import Extensions
from hamlet_core.wire.messages import OK, Answer, Codec

RETRY_CAP = 60.0
"""Longest delay, in seconds, before a service that the consumer could not take is sent again."""
RETRY_LIMIT = 1_000
"""So many services may wait for a retry; a consumer that refuses more gets nothing new until some pass."""

LONGEST_REASON = 500
"""So many characters of a consumer's reason are kept: it writes them, we hold them for every service."""

_TRY_LATER = {grpc.StatusCode.UNAVAILABLE.value[0]}


@dataclass(slots=True)
class _Sent:
    entry: Entry | None  # None: the end of the catalog
    at: float


@dataclass(slots=True)
class _Retry:
    due: float  # infinite while it is sent and not answered
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerStatus:
    """How a consumer stands: `services` in its view, `lag` of them not yet acknowledged in their latest form.

    `rejected` maps a service to the consumer's reason; `retrying` counts what it could not take for now.
    """

    services: int
    lag: int
    rejected: dict[str, str]
    retrying: int


class OwnerSession:
    """Publishes one audience's catalog to one consumer.

    At most `extensions.window` messages are unanswered; one that is not answered within `ack_timeout`
    seconds ends the stream, so that a silent consumer costs nothing but its cursor. `nonces` are those of
    the stream: a consumer that subscribes anew on it may still answer what was sent before.
    """

    def __init__(
        self,
        codec: Codec,
        subscription: Subscription,
        send: Callable[[bytes], Awaitable[None]],
        *,
        context: str,
        extensions: Callable[[], Extensions],
        ack_timeout: float,
        nonces: Iterator[int] | None = None,
    ) -> None:
        self._codec = codec
        self._subscription = subscription
        self._send = send
        self._context = context
        self._extensions = extensions
        self._ack_timeout = ack_timeout
        self._wake = asyncio.Event()
        self._nonces = nonces if nonces is not None else count(1)
        self._stopped = False
        self._last_version = 0
        self._sent: dict[str, _Sent] = {}
        self._retries: dict[str, _Retry] = {}
        self._rejected: dict[str, str] = {}
        self._walked = False
        self._announced = False
        subscription.on_change = self._wake.set

    async def run(self) -> None:
        """Send until stopped; raises `StreamEnd` for a consumer that does not answer or fell behind."""
        try:
            while not self._stopped:
                self._wake.clear()
                if self._subscription.stale:
                    message = "the consumer fell too far behind; it must subscribe anew"
                    raise StreamEnd(grpc.StatusCode.ABORTED, message)
                if await self._send_some():
                    continue
                self._check_answers()
                try:
                    async with asyncio.timeout_at(self._next_deadline()):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._subscription.close()

    def stop(self) -> None:
        """Publish nothing more. A frame that is being written still goes out: half of one would end the stream."""
        self._stopped = True
        self._subscription.close()
        self._wake.set()

    async def _send_some(self) -> bool:
        room = self._extensions().window - len(self._sent)
        if room <= 0:
            return False
        entries = self._due_retries(room)
        if len(self._retries) < RETRY_LIMIT:
            entries += self._subscription.take(room - len(entries))
        for entry in entries:
            await self._send_entry(entry)
            if self._stopped:
                return False
        if not self._subscription.caught_up:
            return bool(entries)
        self._walked = self._walked or not self._sent
        if self._extensions().snapshot and not self._announced and not entries:
            self._announced = True
            nonce = self._next_nonce(None)
            await self._write(self._codec.snapshot_end(nonce, self._subscription.size, self._context))
        return bool(entries)

    def _due_retries(self, room: int) -> list[Entry]:
        now = asyncio.get_running_loop().time()
        due = [name for name, retry in self._retries.items() if retry.due <= now][:room]
        current = {name: self._subscription.current(name) for name in due}
        for name in due:
            if current[name] is None:
                del self._retries[name]
        return [entry for entry in current.values() if entry is not None]

    async def _send_entry(self, entry: Entry) -> None:
        nonce = self._next_nonce(entry)
        if entry.payload is None:
            frame = self._codec.withdraw(nonce, entry.name, self._context)
        else:
            packed = getattr(entry.payload, self._codec.api)
            # A creation is what appeared after the last entry that was sent; the catalog is all creations.
            created = not self._walked or entry.created > self._last_version
            frame = self._codec.offer(nonce, packed, self._context, created=created)
        self._last_version = max(self._last_version, entry.version)
        retry = self._retries.get(entry.name)
        if retry is not None:
            retry.due = float("inf")  # until it is answered
        await self._write(frame)

    def _next_nonce(self, entry: Entry | None) -> str:
        nonce = str(next(self._nonces))
        self._sent[nonce] = _Sent(entry, asyncio.get_running_loop().time())
        return nonce

    async def _write(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(self._ack_timeout):
                await self._send(frame)
        except TimeoutError as error:
            message = f"the consumer has read nothing for {self._ack_timeout:g} s"
            raise StreamEnd(grpc.StatusCode.DEADLINE_EXCEEDED, message) from error

    def _check_answers(self) -> None:
        oldest = next(iter(self._sent.values()), None)
        if oldest is not None and asyncio.get_running_loop().time() >= oldest.at + self._ack_timeout:
            about = oldest.entry.name if oldest.entry else "the end of the catalog"
            message = f"the consumer has not answered about {about} for {self._ack_timeout:g} s"
            raise StreamEnd(grpc.StatusCode.DEADLINE_EXCEEDED, message)

    def _next_deadline(self) -> float | None:
        deadlines = (
            [retry.due for retry in self._retries.values()] if len(self._sent) < self._extensions().window else []
        )
        oldest = next(iter(self._sent.values()), None)
        if oldest is not None:
            deadlines.append(oldest.at + self._ack_timeout)
        soonest = min(deadlines, default=float("inf"))
        return None if soonest == float("inf") else soonest

    def answered(self, answer: Answer) -> None:
        """Take the consumer's answer. Without a nonce it answers the oldest message; an unknown one is nothing."""
        nonce = answer.nonce or next(iter(self._sent), "")
        sent = self._sent.pop(nonce, None)
        self._wake.set()
        if sent is None or sent.entry is None:
            return
        name = sent.entry.name
        self._rejected.pop(name, None)
        attempt = self._retries.pop(name).attempt if name in self._retries else 0
        if answer.code in _TRY_LATER:
            due = asyncio.get_running_loop().time() + backoff.delay(attempt, RETRY_CAP)
            self._retries[name] = _Retry(due, attempt + 1)
        if answer.code != OK:
            reason = answer.message[:LONGEST_REASON]
            self._rejected[name] = reason or f"refused with code {answer.code} and no reason"

    @property
    def unanswered(self) -> bool:
        """Whether a message waits for its answer."""
        return bool(self._sent)

    def move(self, audience: str) -> None:
        """Publish another view from now on; the consumer gets the difference."""
        self._subscription.move(audience)
        self._wake.set()

    def extensions_changed(self) -> None:
        """The peer's extensions became known: there may be more room."""
        self._wake.set()

    @property
    def synced(self) -> bool:
        """Whether the consumer has acknowledged everything there is."""
        return self._subscription.caught_up and not self._sent and not self._retries

    def status(self) -> OwnerStatus:
        """A snapshot for `hamlet status`."""
        waiting = sum(1 for sent in self._sent.values() if sent.entry is not None)
        to_retry = sum(1 for retry in self._retries.values() if retry.due != float("inf"))
        return OwnerStatus(
            services=self._subscription.size,
            lag=self._subscription.lag + waiting + to_retry,
            rejected=dict(self._rejected),
            retrying=len(self._retries),
        )
