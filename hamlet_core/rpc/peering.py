"""Everything that stands between us and one peer: its streams, and which of them carries which role.

One subscription per direction: our subscription lives on the best stream there is, the peer's on the one
where it subscribed last. Of two streams that could carry ours, the one the peer is known to serve wins; of
two such, the one opened by the side that dials first; of two that are unknown, the one we opened, because a
peer may dial only to consume; then the newest. A stream of ours that is left without a role is closed, so
that two agents that dial each other keep one stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import grpc

from hamlet_core.config.model import Peer
from hamlet_core.publish.catalog import Subscription
from hamlet_core.rpc.consumer import ImportSink
from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.stream import PeerStream
from hamlet_core.wire.messages import Subscribe

IDLE = 2.0
"""Seconds that a stream of ours may stand without a role."""
STREAMS = 16
"""So many streams of one peer may stand; of more, the oldest without a role is ended."""


class Peering:
    """The streams of one peer. All of it runs on the event loop; nothing here waits."""

    def __init__(
        self,
        name: str,
        settings: Peer,
        sink: ImportSink,
        *,
        subscription: Callable[[str], Subscription | None],
        dials_first: bool,
    ) -> None:
        self.name = name
        self.settings = settings
        self.dials_first = dials_first
        self._sink = sink
        self._subscription = subscription
        self._streams: list[PeerStream] = []
        self._subscribed: list[PeerStream] = []
        self._closed: StreamEnd | None = None
        self.changed = asyncio.Event()
        """Set whenever streams or roles change; who waits clears it."""
        self.last_error = ""
        self.last_mend = ""
        self.last_error_at: datetime | None = None

    @property
    def streams(self) -> tuple[PeerStream, ...]:
        """The streams that are up, oldest first."""
        return tuple(self._streams)

    @property
    def consumer_stream(self) -> PeerStream | None:
        """The stream that carries the peer's catalog to us."""
        return next((stream for stream in self._streams if stream.consuming), None)

    @property
    def owner_stream(self) -> PeerStream | None:
        """The stream on which we publish to the peer."""
        return next((stream for stream in self._streams if stream.owner is not None), None)

    @property
    def served(self) -> bool:
        """Whether our subscription stands on a stream we need not replace by dialling."""
        stream = self.consumer_stream
        return stream is not None and (stream.dialled or stream.proven)

    def failed(self, reason: str, mend: str = "") -> None:
        """Remember why the link is not up and what to do about it, for status and check."""
        self.last_error = reason
        self.last_mend = mend
        self.last_error_at = datetime.now(UTC)

    def attach(self, stream: PeerStream) -> None:
        """A stream came up."""
        self._streams.append(stream)
        if self._closed is not None:
            stream.end(self._closed.code, self._closed.reason)
        elif len(self._streams) > STREAMS:
            idle = next(each for each in self._streams if each.owner is None and not each.consuming)
            idle.end(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {STREAMS} streams of one peer")
        self._arrange()

    def detach(self, stream: PeerStream) -> None:
        """A stream ended."""
        was_consuming = stream.consuming
        self._streams.remove(stream)
        if stream in self._subscribed:
            self._subscribed.remove(stream)
        if stream.consumer is not None:
            stream.consumer.retire()
        stream.unpublish()
        self._arrange()
        if was_consuming and self.consumer_stream is None:
            self._sink.lost(self.name)

    def proven(self, stream: PeerStream) -> None:
        """The peer is known to be an owner on this stream."""
        del stream
        self._arrange()

    def subscribed(self, stream: PeerStream, request: Subscribe) -> None:
        """The peer asked for our catalog on this stream: the newest request wins."""
        if not stream.open:
            return
        wanted = self.settings.context
        if stream.codec.bidirectional and request.context != wanted:
            message = (
                f"context {request.context!r} is not the one agreed on ({wanted!r}): set peers.{self.name}.context"
            )
            stream.end(grpc.StatusCode.FAILED_PRECONDITION, message)
            self.failed(message)
            return
        if request.resource_url not in ("", stream.codec.resource_url):
            message = f"unknown resource {request.resource_url!r}; {stream.codec.resource_url} is published"
            stream.end(grpc.StatusCode.INVALID_ARGUMENT, message)
            return
        if stream in self._subscribed:
            self._subscribed.remove(stream)
        self._subscribed.append(stream)
        stream.unpublish()
        self._arrange()

    def update(self, settings: Peer, audience: str) -> None:
        """Go on with changed settings, publishing to another audience if the policy says so."""
        self.settings = settings
        for stream in self._streams:
            if stream.owner is not None:
                stream.owner.move(audience)

    def close(self, code: grpc.StatusCode, reason: str) -> None:
        """End every stream, also those that still come. See `drained`."""
        self._closed = StreamEnd(code, reason)
        for stream in self._streams:
            stream.end(code, reason)

    async def drained(self) -> None:
        """Wait until the last stream is gone and nothing of it reaches the sink any more."""
        while self._streams:
            self.changed.clear()
            await self.changed.wait()

    def _arrange(self) -> None:
        if self._closed is None:
            self._choose_consumer()
            self._choose_owner()
        for stream in self._streams:
            if stream.dialled and len(self._streams) > 1 and stream.owner is None and not stream.consuming:
                stream.close_when_idle(IDLE)
        self.changed.set()

    def _choose_consumer(self) -> None:
        able = [stream for stream in self._streams if stream.consumer is not None and stream.open]
        if not able:
            return
        order = {id(stream): number for number, stream in enumerate(able)}
        current = self.consumer_stream
        best = max(
            able,
            key=lambda s: (s.proven, s.dialled == self.dials_first if s.proven else s.dialled, order[id(s)]),
        )
        if best is current:
            return
        if current is not None and current.consumer is not None:
            current.consumer.retire()
        best.subscribe()

    def _choose_owner(self) -> None:
        newest = next((stream for stream in reversed(self._subscribed) if stream.open), None)
        for stream in self._streams:
            if stream is not newest:
                stream.unpublish()
        if newest is None or newest.owner is not None:
            return
        subscription = self._subscription(self.name)
        if subscription is None:
            message = "not every registry of this mesh has reported yet: come back later"
            newest.end(grpc.StatusCode.UNAVAILABLE, message)
        else:
            newest.publish(subscription)
