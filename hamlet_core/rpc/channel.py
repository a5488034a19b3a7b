"""gRPC over mutual TLS, where each side knows the other by its own bundle: the options and the accepting side.

grpcio's server shows the client's certificate but has one store for all clients, so an interceptor judges it
again before every RPC. grpcio's client shows nothing: `hamlet_core.rpc.tunnel` is its TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from cryptography import x509

from hamlet_core.identity.authority import unusable_authority
from hamlet_core.identity.source import IdentitySource
from hamlet_core.identity.spiffe import IdentityError
from hamlet_core.rpc.tunnel import PeerUnreachable, Tunnel

__all__ = [
    "CALLER",
    "Caller",
    "IdentityInterceptor",
    "PeerUnreachable",
    "Tunnel",
    "client_options",
    "open_channel",
    "peer_chain",
    "server_credentials",
    "server_options",
]

_log = structlog.get_logger(__name__)
_LARGEST_MESSAGE = 16 * 1024 * 1024
# A stopped peer is noticed after at most the two together. `grpc.keepalive_timeout_ms` does nothing in
# grpcio 1.85; `grpc.http2.ping_timeout_ms` (60 s by default) is what counts.
_PING_EVERY_MS = 10_000
_PING_TIMEOUT_MS = 5_000
# Half of what we send ourselves: with grpcio's default (5 minutes) the server ends idle streams of
# pinging clients with "too many pings".
_PING_AT_MOST_EVERY_MS = 5_000
_TLS_VERSIONS = {"TLSv1.2", "TLSv1.3"}

_Options = list[tuple[str, int | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who called the RPC that is being handled: the configured peer, what it proved, and by which chain."""

    peer: str
    identity: str
    chain: tuple[x509.Certificate, ...]


CALLER: ContextVar[Caller] = ContextVar("hamlet_caller")
"""Set by `IdentityInterceptor` around every handler."""


def client_options(*, ping: bool, authority: str = "localhost") -> _Options:
    """Channel options of the dialling side. `ping` only towards an agent known to be ours.

    A foreign server may enforce any interval between pings and end the connection of who pings more often;
    ask its health service instead. `authority` is the name sent as HTTP/2 `:authority`.
    """
    options: _Options = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.default_authority", authority),
        ("grpc.enable_http_proxy", 0),
        # Our own backoff decides when a call is made again, and knows why it failed.
        ("grpc.enable_retries", 0),
        # Two channels to one peer are two connections: closing one must not depend on the other.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return options + _pings() if ping else options


def server_options() -> _Options:
    """Options of the accepting side: the owner pings, so that a stopped consumer is noticed within 15 s."""
    return [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_AT_MOST_EVERY_MS),
        # Two agents on one port would share its connections by chance.
        ("grpc.so_reuseport", 0),
        *_pings(),
    ]


def open_channel(target: str, *, keepalive: bool, authority: str = "localhost") -> grpc.aio.Channel:
    """Open a channel to `target`, which `Tunnel.start` returned; `keepalive` as `ping` of `client_options`.

    Open one per dial: gRPC's own redialling backs off by itself and keeps its reasons.
    """
    return grpc.aio.insecure_channel(target, options=client_options(ping=keepalive, authority=authority))


def server_credentials(source: IdentitySource) -> grpc.ServerCredentials:
    """TLS of the accepting side: a client certificate is required; files that change count from the next handshake.

    Raises IdentityError when we have no certificate. It admits any chain to any peer's authority, so a server
    that uses it must have an `IdentityInterceptor`.
    """
    given = source.version

    def configuration() -> grpc.ServerCertificateConfiguration:
        own = source.credentials
        # gRPC refuses an empty store, and without peers nobody is to be let in.
        roots = source.merged_bundle() or unusable_authority()
        return grpc.ssl_server_certificate_configuration([(own.key_pem, own.certificate_pem)], roots)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        version = source.version  # read before the rest: what changes in between is fetched once more
        if version == given:
            return None
        try:
            fetched = configuration()
        except Exception:
            _log.exception("the server keeps its earlier certificate")
            raise
        given = version
        return fetched

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        fetch,  # type: ignore[arg-type]  # None means unchanged; the stubs do not know it
        require_client_authentication=True,
    )


def peer_chain(context: Any) -> list[x509.Certificate]:
    """The chain that the client of this RPC presented, leaf first; IdentityError when there is none to trust.

    Never `peer_identities()`: for a certificate without SANs that is its common name, whatever it says.
    """
    properties = {key: list(values) for key, values in context.auth_context().items()}
    version = b"".join(properties.get("ssl_tls_version", [])).decode(errors="replace")
    if version not in _TLS_VERSIONS:
        raise IdentityError(
            f"the connection is {version or 'not TLS'}; TLS 1.2 is the least", mend="the peer must use TLS 1.2 or 1.3"
        )
    # On the accepting side the "chain" is what came after the leaf; duplicates make no difference.
    pem = b"".join([*properties.get("x509_pem_cert", []), *properties.get("x509_pem_cert_chain", [])])
    try:
        return list(dict.fromkeys(x509.load_pem_x509_certificates(pem)))
    except ValueError as error:
        raise IdentityError("no certificate that can be read was presented") from error


class IdentityInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """In front of every RPC: find the peer by its certificate, or end the RPC as UNAUTHENTICATED.

    `on_refused` gets the reason of each refusal, for logs and counters. Handlers find the peer in `CALLER`.
    """

    def __init__(self, source: IdentitySource, on_refused: Callable[[str], object] = lambda _: None) -> None:
        self._source = source
        self._on_refused = on_refused
        self._standing: dict[asyncio.Task[Any], Caller] = {}
        self._revoked: set[asyncio.Task[Any]] = set()

    def recheck(self, now: datetime) -> bool:
        """End the RPCs whose peer's authority has gone, as UNAUTHENTICATED; True when there were any.

        Call it after a reload. Their handlers see a cancellation.
        """
        for task, caller in self._standing.items():
            if task not in self._revoked and not self._source.still_trusts(caller.peer, caller.chain, now):
                self._revoked.add(task)
                task.cancel()
        return bool(self._revoked)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler, whatever its kind; what is not implemented stays so, and says nothing else."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        asks = "stream" if handler.request_streaming else "unary"
        kind = f"{asks}_{'stream' if handler.response_streaming else 'unary'}"
        inner = getattr(handler, kind)
        wrapped = self._streaming(inner) if inspect.isasyncgenfunction(inner) else self._answering(inner)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _answering(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: Any, context: Any) -> Any:
            async with self._identified(context):
                return await inner(request, context)

        return answer

    def _streaming(self, inner: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._identified(context), contextlib.aclosing(inner(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return stream

    @contextlib.asynccontextmanager
    async def _identified(self, context: Any) -> AsyncIterator[None]:
        try:
            chain = peer_chain(context)
            peer, identity = self._source.identify(chain, datetime.now(UTC))
        except IdentityError as error:
            _log.warning("caller refused", address=context.peer(), reason=str(error), mend=error.mend)
            self._on_refused(str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        caller = Caller(peer=peer, identity=identity, chain=tuple(chain))
        CALLER.set(caller)
        with self._standing_rpc(caller) as task:
            try:
                yield
            except asyncio.CancelledError:
                if task not in self._revoked:
                    raise
                task.uncancel()
                reason = f"{identity} is not trusted any more"
                _log.warning("stream ended", peer=peer, reason=reason)
                self._on_refused(reason)
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

    @contextlib.contextmanager
    def _standing_rpc(self, caller: Caller) -> Iterator[asyncio.Task[Any]]:
        task = asyncio.current_task()
        assert task is not None
        self._standing[task] = caller
        try:
            yield task
        finally:
            del self._standing[task]
            self._revoked.discard(task)


def _pings() -> _Options:
    return [
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
