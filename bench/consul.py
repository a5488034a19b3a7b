"""The adapter of kind `consul` on real Consuls: writing in bulk, a registration's way between two, requests a change.

Consul is found, or fetched once, as the tests do it. Writing in bulk is measured in `bench.consul_bulk`; bare is a
blocking query elsewhere.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from hamlet_consul.registry import ConsulRegistry

from bench import consul_bulk
from bench.consul_opened import opened, real_consul
from bench.measure import Row, alone, compared, percentile
from bench.setting import Setting
from hamlet_core.api import Batch, Snapshot, Stop
from tests.backends.consul import Consul
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

MILLI = 1000.0
WAITING = ("health/state", "catalog/services", "config/service-defaults")
"""The queries that stay open: what wakes them is answered by them."""
PATIENCE = 60.0


def run(setting: Setting) -> list[Row]:
    """Measure all three."""
    return [*consul_bulk.run(setting), *_latency(setting), *_requests(setting)]


# --- latency


def _latency(setting: Setting) -> list[Row]:
    changes, standing = setting.sizes.consul_changes
    ours: list[float] = []
    bare: list[float] = []
    with ExitStack() as stack:
        meshes = [Mesh(root=setting.root, name=name) for name in ("west", "east")]
        consuls = [stack.enter_context(real_consul(mesh.name)) for mesh in meshes]
        setting.step(f"two agents, {standing:,} services standing")
        consuls[0].register_many(standing)
        for mesh, consul, other in zip(meshes, consuls, reversed(meshes), strict=True):
            registries = {"main": {"kind": "consul", "address": consul.address}}
            mesh.configure({other.name: other.peer(max_services=1_000_000)}, registries=registries)
            agent = AgentProcess(mesh)
            stack.callback(agent.end)
            agent.start()
        west, east = consuls
        last = f"service-{standing - 1}-west-example"
        wait_until(lambda: east.do("GET", f"/v1/health/service/{last}?passing"), within=PATIENCE, what=last)
        for number in range(changes):
            if number % 20 == 0:
                setting.step(f"{changes:,} registrations: {number:,}")
            bare.append(MILLI * _visible(west, west, f"alone-{number}", f"alone-{number}", node="bare"))
            ours.append(MILLI * _visible(west, east, f"job-{number}", f"job-{number}-west-example"))
            time.sleep(random.uniform(0.002, 0.010))
    case = f"registration in A to health/service/X?passing of B, {standing:,} services"
    note = "reference: the same of one Consul, by a blocking query"
    return [
        compared("consul", f"{case}, {name} of {changes:,}", "ms", [mine], [reference], note)
        for name, mine, reference in (
            (name, percentile(ours, share), percentile(bare, share)) for name, share in (("p50", 0.5), ("p99", 0.99))
        )
    ]


def _visible(there: Consul, here: Consul, name: str, imported: str, node: str = "workloads") -> float:
    """Seconds from registering `name` there to a blocking query here that has `imported`."""
    path = f"/v1/health/service/{imported}?passing"
    index = here.call("GET", path).headers["x-consul-index"]
    seen: list[float] = []

    def wait() -> None:
        nonlocal index
        deadline = time.monotonic() + PATIENCE
        while not seen and time.monotonic() < deadline:
            reply = here.call("GET", f"{path}&index={index}&wait=5s")
            index = reply.headers["x-consul-index"]
            if reply.body:
                seen.append(time.monotonic())

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.01)  # the query is to be open by then
    began = time.monotonic()
    there.register(name, node=node, Address="10.1.0.1")
    waiting.join()
    if not seen:
        message = f"{imported} was not visible within {PATIENCE:g} s"
        raise TimeoutError(message)
    return seen[0] - began


# --- requests


def _requests(setting: Setting) -> list[Row]:
    rows = []
    for count in setting.sizes.consul_services:
        setting.step(f"requests a change at {count:,} services")
        with real_consul("requests") as consul, opened(consul) as registry:
            consul.register_many(count)
            stop = Stop()
            state: dict[str, Any] = {}
            watching = threading.Thread(target=_follow, args=(registry, stop, state))
            watching.start()
            try:
                wait_until(partial(_has, state, count), within=PATIENCE)
                cost = {
                    "a service comes": _cost(consul, registry, state, "passing"),
                    "its health changes": _cost(consul, registry, state, "critical"),
                }
            finally:
                stop.set()
                watching.join()
        note = "beside the three queries that stay open and are woken"
        rows += [
            alone("consul", f"{what}, at {count:,} services", "requests", [number], note)
            for what, number in cost.items()
        ]
    return rows


def _cost(consul: Consul, registry: ConsulRegistry, state: dict[str, Any], status: str) -> float:
    """Requests for each of some services that come to be in this state, one after the other."""
    changes = 20
    before = registry.requests.snapshot()
    for number in range(changes):
        name = f"new-{number}"
        consul.register(name, node="other", status=status)
        wait_until(partial(_is, state, name, status == "passing"), what=name)
    used = registry.requests.snapshot() - before
    return sum(count for path, count in used.items() if path not in WAITING) / changes


def _has(state: dict[str, Any], count: int) -> bool:
    return len(state) == count


def _is(state: dict[str, Any], name: str, healthy: bool) -> bool:
    return name in state and bool(state[name].endpoints) == healthy


def _follow(registry: ConsulRegistry, stop: Stop, state: dict[str, Any]) -> None:
    for batch in registry.registry_watch(stop):
        _take(batch, state)


def _take(batch: Batch, state: dict[str, Any]) -> None:
    if isinstance(batch, Snapshot):
        state |= {service.name: service for service in batch.services}
        return
    for change in batch:
        if hasattr(change, "service"):
            state[change.service.name] = change.service
        else:
            state.pop(change.name, None)
