"""A service's way through everything: written into a registry, published, imported, and called through both gateways.

Two agents as processes with an Envoy each, and registries of kind `file`. The clock runs from before the rename of a
service's file to the first answer at the address that the imported entry names, and from before the file's removal
to the first call without an answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from bench.measure import Row, alone, percentile
from bench.setting import Setting
from tests.backends.envoy import Server, send, short_folder
from tests.support.meshes import Mesh
from tests.support.ports import free_port, free_range
from tests.support.processes import AgentProcess

MOST = 100
GAP = (0.02, 0.08)
"""Seconds between two changes, so that none meets what is left of the one before."""
POLL = 0.001
PATIENCE = 60.0
MILLI = 1000.0
NOTE = "two agents; registries of kind file, which wait 50 ms for more"


def ways(setting: Setting) -> list[Row]:
    """Rows for coming and going, and for the part until the entry stands."""
    entered: list[float] = []
    called: list[float] = []
    refused: list[float] = []
    count = min(MOST, setting.sizes.changes)
    with _federation(count) as (west, east, server):
        for number in range(count):
            if number % 20 == 0:
                setting.step(f"{count} services come and go: {number}")
            name = f"job{number}"
            entry = east.folder / "mesh" / "imported" / "west" / f"{name}.west.example.yaml"
            time.sleep(random.uniform(*GAP))
            began = time.monotonic()
            west.write_service(name, port=server.endpoint.port)
            entered.append(MILLI * (_until(entry.exists, f"the entry of {name}") - began))
            port = _port(entry)
            called.append(MILLI * (_until(lambda port=port: send(port) == b"hello", f"{name} is called") - began))  # type: ignore[misc]
            time.sleep(random.uniform(*GAP))
            began = time.monotonic()
            west.remove_service(name)
            refused.append(MILLI * (_until(lambda port=port: not send(port), f"{name} is refused") - began))  # type: ignore[misc]
    cases = {
        "written until called": called,
        "written until its entry stands": entered,
        "removed until refused": refused,
    }
    return [
        alone("envoy", f"{case}, {name} of {count}", "ms", [percentile(samples, share)], NOTE)
        for case, samples in cases.items()
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


@contextmanager
def _federation(services: int) -> Iterator[tuple[Mesh, Mesh, Server]]:
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        server = Server()
        stack.callback(server.close)
        west, east = (Mesh(root=folder, name=name) for name in ("west", "east"))
        for mesh, other in ((west, east), (east, west)):
            mesh.configure({other.name: other.peer()}, publish=[{"to": "all"}], gateway=_gateway(services))
            agent = AgentProcess(mesh)
            stack.callback(agent.end)
            agent.start()
        west.write_service("first", port=server.endpoint.port)
        entry = east.folder / "mesh" / "imported" / "west" / "first.west.example.yaml"
        _until(entry.exists, "the first entry")
        _until(lambda: send(_port(entry)) == b"hello", "the first call")
        yield west, east, server


def _gateway(services: int) -> dict[str, object]:
    ports = 2 * services + 2
    ingress, first = f"127.0.0.1:{free_port()}", free_range(ports)
    return {
        "kind": "envoy",
        "directory": "envoy",
        "threads": 1,
        "drain": "1s",
        "ingress": {"listen": ingress, "advertise": [ingress]},
        "egress": {"bind": "127.0.0.1", "advertise": "127.0.0.1", "ports": f"{first}-{first + ports - 1}"},
    }


def _port(entry: Path) -> int:
    """The port of the egress that the imported entry names."""
    ((endpoint,),) = YAML(typ="safe", pure=True).load(entry)["route"]["endpoints"].values()
    return int(endpoint["port"])


def _until(done: Callable[[], object], what: str) -> float:
    """When it was done."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            message = f"not within {PATIENCE:g} s: {what}"
            raise TimeoutError(message)
        time.sleep(POLL)
    return time.monotonic()
