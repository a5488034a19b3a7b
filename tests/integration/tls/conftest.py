"""Two meshes, west and east, with their own authorities, on loopback: agents' TLS with nothing of Hamlet above it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from hamlet_core.api.testing.minting import Leaf, Mint
from hamlet_core.config.model import Identity, Peer
from hamlet_core.identity.source import IdentitySource
from hamlet_core.rpc.channel import (
    CALLER,
    IdentityInterceptor,
    Tunnel,
    open_channel,
    server_credentials,
    server_options,
)

ECHO = "/test.Echo/Stream"
ASK = "/test.Echo/Ask"


def spiffe(domain: str, name: str = "agent") -> str:
    return f"spiffe://{domain}.example/hamlet/{name}"


class Mesh:
    """The files of one mesh, written and rewritten as the tests want them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.name = name
        self.authority = Mint(f"{name} authority")
        self.peers: dict[str, Peer] = {}
        self.present(self.authority.leaf(spiffe(name)))

    def present(self, leaf: Leaf) -> None:
        self.certificate, self.key = leaf.write(self.folder)

    def trust(self, name: str, *authorities: Mint, **known: str) -> None:
        """Know a peer by `known` (default: its trust domain) on the word of these authorities."""
        bundle = self.folder / f"{name}.pem"
        bundle.write_bytes(b"".join(authority.pem for authority in authorities))
        self.peers[name] = Peer(bundle=bundle, **(known or {"trust_domain": f"{name}.example"}))

    def source(self) -> IdentitySource:
        return IdentitySource(Identity(certificate=self.certificate, key=self.key), self.peers)


@dataclass
class EchoServer:
    """The accepting agent: echoes streams, and answers who the handler was told has called."""

    source: IdentitySource
    interceptor: IdentityInterceptor
    port: int = 0
    refusals: list[str] = field(default_factory=list)
    ended: list[BaseException] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def echo(self, _requests, context) -> None:
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                await context.write(message)
        except BaseException as error:
            self.ended.append(error)
            raise

    async def ask(self, _request, _context) -> bytes:
        await asyncio.sleep(0)
        caller = CALLER.get()
        return f"{caller.peer} {caller.identity}".encode()

    async def count(self, _request, _context) -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{CALLER.get().peer} {number}".encode()

    async def collect(self, requests, _context) -> bytes:
        return b",".join([message async for message in requests]) + b" " + CALLER.get().peer.encode()


@contextlib.asynccontextmanager
async def _serving(source: IdentitySource, address: str = "127.0.0.1:0") -> AsyncIterator[EchoServer]:
    refusals: list[str] = []
    interceptor = IdentityInterceptor(source, refusals.append)
    echo = EchoServer(source, interceptor, refusals=refusals)
    server = grpc.aio.server(interceptors=[interceptor], options=server_options())
    methods = {
        "Stream": grpc.stream_stream_rpc_method_handler(echo.echo),
        "Ask": grpc.unary_unary_rpc_method_handler(echo.ask),
        "Count": grpc.unary_stream_rpc_method_handler(echo.count),
        "Collect": grpc.stream_unary_rpc_method_handler(echo.collect),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", methods)])
    echo.port = server.add_secure_port(address, server_credentials(source))
    await server.start()
    try:
        yield echo
    finally:
        await server.stop(None)


@pytest.fixture
def west(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, "west")


@pytest.fixture
def east(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, "east")


@pytest.fixture
async def cleanup() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(cleanup) -> Callable[[Mesh], object]:
    """Start an accepting agent for a mesh."""

    async def start(mesh: Mesh) -> EchoServer:
        return await cleanup.enter_async_context(_serving(mesh.source()))

    return start


@dataclass
class Dialled:
    tunnel: Tunnel
    channel: grpc.aio.Channel
    source: IdentitySource
    target: str

    def stream(self):
        return self.channel.stream_stream(ECHO, None, None)()

    async def ask(self) -> str:
        return (await self.channel.unary_unary(ASK, None, None)(b"", timeout=20)).decode()


@pytest.fixture
def dial(cleanup) -> Callable[..., object]:
    """Open a tunnel and a channel from a mesh to a peer."""

    async def start(mesh: Mesh, peer: str, address: str, **options: float) -> Dialled:
        source = mesh.source()
        tunnel = Tunnel(address, source, peer, **options)
        target = await tunnel.start()
        cleanup.push_async_callback(tunnel.close)
        channel = await cleanup.enter_async_context(open_channel(target, keepalive=True))
        return Dialled(tunnel, channel, source, target)

    return start


@pytest.fixture
def refused() -> Callable[[Dialled], object]:
    """Expect a call to fail, and return its (code, details)."""

    async def expect(dialled: Dialled) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await dialled.ask()
        return failure.value.code(), failure.value.details()

    return expect


@pytest.fixture
def until() -> Callable[..., object]:
    """Wait until a condition holds, with a deadline."""

    async def wait(condition: Callable[[], object], what: str = "the condition") -> None:
        try:
            async with asyncio.timeout(20):
                while not condition():  # noqa: ASYNC110 - of gRPC's or the kernel's making: no event tells
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{what} did not come true")

    return wait
