"""Dialling one peer: when to, with which protocol version, and what to do when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import grpc
import structlog

from hamlet_core import backoff
from hamlet_core.identity.source import IdentitySource
from hamlet_core.rpc.channel import Tunnel, open_channel
from hamlet_core.rpc.consumer import ImportSink
from hamlet_core.rpc.ends import CLOSED_CLEANLY, REDUNDANT, StreamEnd
from hamlet_core.rpc.extensions import OURS, PLAIN, from_metadata
from hamlet_core.rpc.health import ask_health, watch_health
from hamlet_core.rpc.peering import Peering
from hamlet_core.rpc.server import METHOD
from hamlet_core.rpc.stream import PeerStream
from hamlet_core.wire.messages import Codec
from hamlet_core.wire.v1alpha1 import V1Alpha1
from hamlet_core.wire.v1alpha2 import V1Alpha2

log = structlog.get_logger()

DIAL_DELAY = 5.0
"""Seconds for which the side that does not dial first waits to be dialled."""

CONNECT_WITHIN = 15.0
"""Seconds for name, connection, TLS and HTTP/2 together."""

VERSIONS: dict[str, tuple[Codec, ...]] = {
    "v1alpha2": (V1Alpha2(),),
    "v1alpha1": (V1Alpha1(),),
    "auto": (V1Alpha2(), V1Alpha1()),
}


class Link:
    """Keeps our subscription to one peer alive by dialling it whenever no stream of its own carries it."""

    def __init__(self, peering: Peering, source: IdentitySource, sink: ImportSink) -> None:
        self._peering = peering
        self._source = source
        self._sink = sink
        self.tunnel: Tunnel | None = None
        self.attempts = 0
        """Dials since the last that succeeded: that brought a catalog, or a part of it."""
        self._answered = False  # the peer did, the last time it was dialled
        self.waits = peering.settings.address is None or not peering.dials_first
        """Whether it waits to be dialled: for ever without an address, and at first where the peer dials first."""
        self.identity = ""
        """What the peer proved to be when it was last dialled."""
        self.rejected = False
        """Whether the peer does not know us: then it is not dialled until a reload, or until it dials us."""
        self._again = asyncio.Event()

    def try_again(self) -> None:
        """Certificates, bundles or settings are new: what failed may succeed now, so it is dialled at once."""
        self._again.set()

    async def run(self) -> None:
        """Dial until cancelled, with pauses that grow; a peer that rejects us only when there is news of it.

        News (`try_again`) that come while it is dialled count too: the dial may have begun with what was there
        before.
        """
        peering, settings = self._peering, self._peering.settings
        if settings.address is None:
            return
        cap = settings.backoff_cap.total_seconds()
        wait_first = not peering.dials_first
        while True:
            if wait_first:
                await self._wait_to_be_dialled()
            await self._until_unserved()
            answered, self._answered = self._answered, False
            self._again.clear()
            end = await self._dial(settings.address)
            if self._answered and not answered:
                self.attempts = 0  # it was out of reach, and now refuses (it may not be ready): that is news
            if end is REDUNDANT:
                await asyncio.sleep(backoff.FIRST)
                continue
            peering.failed(end.reason, end.mend)
            if end.code is grpc.StatusCode.UNAUTHENTICATED:
                log.error(
                    "the peer does not know us; not dialling until a reload", peer=peering.name, reason=end.reason
                )
                await self._until_news()
                continue
            seconds = backoff.delay(self.attempts, cap)
            self.attempts += 1
            log.warning("link down", peer=peering.name, reason=str(end), retry_in=round(seconds, 1))
            await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until there is news: the peer dials us, so it is there again, or `try_again`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news()
        if self._again.is_set():
            self.attempts = 0

    async def _until_news(self) -> None:
        """Wait for a reload, or for a new stream of the peer's: by opening one it shows that it knows us."""
        self.rejected = True
        try:
            await self._news()
        finally:
            self.rejected = False

    async def _news(self) -> None:
        heard = asyncio.ensure_future(self._heard())
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait({heard, again}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
            again.cancel()

    async def _heard(self) -> None:
        """Wait until a stream is up that is not now."""
        before = self._peering.streams
        while not set(self._peering.streams).difference(before):
            self._peering.changed.clear()
            await self._peering.changed.wait()

    async def _wait_to_be_dialled(self) -> None:
        try:
            async with asyncio.timeout(DIAL_DELAY):
                while not self._peering.served:
                    self._peering.changed.clear()
                    await self._peering.changed.wait()
        except TimeoutError:
            return
        finally:
            self.waits = False

    async def _until_unserved(self) -> None:
        while self._peering.served:
            self._peering.changed.clear()
            await self._peering.changed.wait()

    async def _dial(self, address: str) -> StreamEnd:
        self.tunnel = Tunnel(address, self._source, self._peering.name)
        try:
            target = await self.tunnel.start()
            async with open_channel(target, keepalive=False) as channel:
                end = await self._stream(channel, VERSIONS[self._peering.settings.api])
            error = self.tunnel.last_error
            if error is not None and end.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN):
                return StreamEnd(end.code, str(error), mend=error.mend)
            return end
        finally:
            await self.tunnel.close()
            self.tunnel = None

    async def _stream(self, channel: grpc.aio.Channel, codecs: Sequence[Codec]) -> StreamEnd:
        end = StreamEnd(CLOSED_CLEANLY, "")
        for codec in codecs:
            end = await self._establish(channel, codec)
            if end.code is not grpc.StatusCode.UNIMPLEMENTED:
                break
        return end

    async def _establish(self, channel: grpc.aio.Channel, codec: Codec) -> StreamEnd:
        peering = self._peering
        method = channel.stream_stream(f"/{codec.service}/{METHOD}", None, None)
        if not await _connected(channel):
            return StreamEnd(grpc.StatusCode.UNAVAILABLE, f"no connection to {peering.settings.address}")
        self._answered = True
        self.identity = (self.tunnel and self.tunnel.identity) or ""
        call: grpc.aio.StreamStreamCall[bytes, bytes] = method(None, metadata=grpc.aio.Metadata(*OURS.metadata()))
        stream = PeerStream(
            call,
            codec,
            peer=peering.name,
            settings=peering.settings,
            dialled=True,
            extensions=PLAIN,
            sink=self._sink,
            on_subscribe=peering.subscribed,
            on_proven=peering.proven,
        )
        stream.alive = partial(ask_health, channel, stream)
        peering.attach(stream)
        try:
            end = await stream.run(self._negotiate(call, stream), watch_health(channel, stream))
        finally:
            peering.detach(stream)
        call.cancel()  # which does nothing to one that is over
        if end.code is CLOSED_CLEANLY and end is not REDUNDANT:
            end = await self._explain(call, stream)
        assert stream.consumer is not None
        # What we end ourselves part of the way would come to the same end if it were dialled again at once.
        if stream.consumer.complete or (stream.consumer.received and not call.cancelled()):
            self.attempts = 0
            self._again.clear()  # it came up: what was new meanwhile is no reason to dial without a pause
        return end

    async def _negotiate(self, call: grpc.aio.StreamStreamCall[bytes, bytes], stream: PeerStream) -> None:
        agreed = from_metadata(await call.initial_metadata())
        if agreed != PLAIN:
            stream.negotiated(OURS.agree(agreed))

    async def _explain(self, call: grpc.aio.StreamStreamCall[bytes, bytes], stream: PeerStream) -> StreamEnd:
        """Why the server ended the stream; a clean end is no success, for a subscription never ends."""
        code, details = await call.code(), await call.details()
        if code is not grpc.StatusCode.OK:
            return StreamEnd(code, details or f"the peer ended the stream with {code.name}")
        if stream.consumer is not None and stream.consumer.received:
            return StreamEnd(code, "the peer ended the stream; it was up")
        context = self._peering.settings.context
        return StreamEnd(
            code,
            "the peer ended the stream at once and without an error: "
            f"its operator may have agreed on another context than {context!r} (peers.{self._peering.name}.context)",
        )


async def _connected(channel: grpc.aio.Channel) -> bool:
    """Whether the channel comes up at the first try; our own backoff decides when the next one is."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    return False
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return True
