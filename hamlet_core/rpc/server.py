"""The serving side: one port, both protocol versions, every caller identified before its first frame."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from hamlet_core.api import HamletError
from hamlet_core.identity.source import IdentitySource
from hamlet_core.rpc.channel import CALLER, Caller, IdentityInterceptor, server_credentials, server_options
from hamlet_core.rpc.consumer import ImportSink
from hamlet_core.rpc.ends import CLOSED_CLEANLY, StreamEnd
from hamlet_core.rpc.extensions import OURS, from_metadata
from hamlet_core.rpc.peering import Peering
from hamlet_core.rpc.stream import PeerStream
from hamlet_core.wire.messages import Codec
from hamlet_core.wire.v1alpha1 import V1Alpha1
from hamlet_core.wire.v1alpha2 import V1Alpha2

log = structlog.get_logger()

METHOD = "EstablishStream"
CODECS: tuple[Codec, ...] = (V1Alpha2(), V1Alpha1())


class FederationServer:
    """Accepts the streams of peers and hands each to its `Peering`."""

    def __init__(
        self,
        listen: str,
        source: IdentitySource,
        sink: ImportSink,
        peering: Callable[[str], Peering | None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._sink = sink
        self._peering = peering
        self._interceptor = IdentityInterceptor(source, on_refused)
        self._server = grpc.aio.server(interceptors=[self._interceptor], options=server_options())
        handlers = [grpc.method_handlers_generic_handler(c.service, {METHOD: self._handler(c)}) for c in CODECS]
        self._server.add_generic_rpc_handlers(handlers)
        self._health = HealthServicer()
        add_HealthServicer_to_server(self._health, self._server)
        try:
            self.port = self._server.add_secure_port(listen, server_credentials(source))
        except RuntimeError as error:
            message = f"cannot listen on {listen} for peers"
            raise HamletError(message, mend="is the address one of this machine, and its port free?") from error

    async def start(self) -> None:
        """Begin to accept."""
        await self._server.start()
        for codec in CODECS:
            await self._health.set(codec.service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Refuse what is new, give what stands `grace` seconds, then cut it."""
        await self._server.stop(grace)

    def recheck(self, now: datetime) -> None:
        """Certificates changed: end the streams of peers whose authority is no longer trusted."""
        self._interceptor.recheck(now)

    def _handler(self, codec: Codec) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def establish_stream(requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            del requests  # read() and write() of the context let both directions wait apart
            await self._serve(codec, context, CALLER.get())

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(establish_stream)
        return handler

    async def _serve(self, codec: Codec, context: grpc.aio.ServicerContext[bytes, bytes], caller: Caller) -> None:
        offered = from_metadata(context.invocation_metadata())
        agreed = OURS.agree(offered)
        await context.send_initial_metadata(agreed.metadata())
        peering = self._peering(caller.peer)  # no pause from here on: it may be removed in one
        if peering is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{caller.identity} is no peer of this mesh")
        stream = PeerStream(
            context,
            codec,
            peer=peering.name,
            settings=peering.settings,
            dialled=False,
            extensions=agreed,
            sink=self._sink,
            on_subscribe=peering.subscribed,
            on_proven=peering.proven,
        )
        stream.proven = agreed.snapshot and codec.bidirectional
        log.info("stream accepted", peer=peering.name, api=codec.api, identity=caller.identity)
        peering.attach(stream)
        try:
            end = await stream.run()
        finally:
            peering.detach(stream)
        log.info("stream ended", peer=peering.name, api=codec.api, reason=str(end))
        if end.code is not CLOSED_CLEANLY:
            await self._abort(context, end)

    @staticmethod
    async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], end: StreamEnd) -> None:
        await context.abort(end.code, end.reason)
