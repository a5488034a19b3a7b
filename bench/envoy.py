"""The gateway of kind `envoy` with real Envoys: calls, a service's whole way, and a change beside many services.

Calls are in `bench.gateway_calls`, the way through two agents in `bench.gateway_agents`. A change here is one service
more, or one with other endpoints, from handing it to the gateway until it is in force, and to the first answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.gateway_agents import ways
from bench.gateway_calls import calls
from bench.gateway_meshes import introduce, mesh
from bench.measure import Row, alone
from bench.setting import Setting
from hamlet_core.api import Endpoint
from tests.backends.envoy import Mesh, Server, send

MILLI = 1000.0


def run(setting: Setting) -> list[Row]:
    """Measure all three."""
    return [*calls(setting), *ways(setting), *_changes(setting)]


def _changes(setting: Setting) -> list[Row]:
    rows = []
    for services in setting.sizes.envoy_services:
        with ExitStack() as stack:
            echo = Server()
            stack.callback(echo.close)
            ports = services + setting.sizes.envoy_changes + 50
            west = stack.enter_context(mesh("west"))
            east = stack.enter_context(mesh("east", ports=ports))
            introduce(west, east)
            setting.step(f"{services:,} services")
            rows += _beside(setting, west, east, echo, services)
    return rows


def _beside(setting: Setting, west: Mesh, east: Mesh, echo: Server, services: int) -> list[Row]:
    empty = [_resident(side) for side in (west, east)]
    out = [west.publishes(f"s{number}", echo, to=["east"]) for number in range(services)]
    into = [west.offers(f"s{number}") for number in range(services)]
    at_once = [_seconds(lambda: west.gateway.gateway_publish(out)), _seconds(lambda: east.imports(*into))]
    full = [_resident(side) for side in (west, east)]
    publish, take, effect, written, moved = [], [], [], [], []
    for number in range(setting.sizes.envoy_changes):
        out.append(west.publishes(f"new{number}", echo, to=["east"]))
        into.append(west.offers(f"new{number}"))
        before = [_files(side) for side in (west, east)]
        begun = time.perf_counter()
        publish.append(_seconds(lambda: west.gateway.gateway_publish(out)))
        taken = time.perf_counter()
        port = east.imports(*into)[-1]
        take.append(time.perf_counter() - taken)
        assert send(port) == b"hello"
        effect.append(time.perf_counter() - begun)
        written.append(sum(_replaced(side, old) for side, old in zip((west, east), before, strict=True)))
        out[-1] = replace(out[-1], endpoints=(Endpoint(address="127.0.0.1", port=1),))
        moved.append(_seconds(lambda: west.gateway.gateway_publish(out)))
    case = f"{services:,} services"
    memory = [(after - before) / services / 1000 for before, after in zip(empty, full, strict=True)]
    return [
        alone("envoy", f"{case}: published at once", "ms", [at_once[0] * MILLI], "until in force"),
        alone("envoy", f"{case}: imported at once", "ms", [at_once[1] * MILLI], "until in force"),
        alone("envoy", f"{case}: memory of the ingress, each", "kB", [memory[0]]),
        alone("envoy", f"{case}: memory of the egress, each", "kB", [memory[1]]),
        alone("envoy", f"{case}: one more is published", "ms", [each * MILLI for each in publish], "until in force"),
        alone("envoy", f"{case}: one more is imported", "ms", [each * MILLI for each in take], "until in force"),
        alone("envoy", f"{case}: one is elsewhere", "ms", [each * MILLI for each in moved], "until in force"),
        alone("envoy", f"{case}: one more, to the first answer", "ms", [each * MILLI for each in effect]),
        alone("envoy", f"{case}: one more, bytes written by both", "kB", [each / 1000 for each in written]),
    ]


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
