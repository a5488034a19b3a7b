"""The adapter of kind `consul` on real Consuls: writing in bulk, a registration's way between two, requests a change.

Consul is found, or fetched once, as the tests do it. Bare is HTTP on one kept connection: transactions of 64
operations with the same content, encoded beforehand, their answers not looked at; or a blocking query.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from hamlet_consul.client import TXN_OPERATIONS
from hamlet_consul.entries import entries_for
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry

from bench.measure import Row, alone, compared, percentile
from bench.setting import Setting
from hamlet_core.api import AdapterContext, Batch, ImportedService, Snapshot, Status, Stop, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.consul import Consul
from tests.backends.install import ensure
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

MILLI = 1000.0
CALLS = (5_000, 500)
"""Changes handed to the adapter in one call: all, and as many as the agent does."""
WAITING = ("health/state", "catalog/services", "config/service-defaults")
"""The queries that stay open: what wakes them is answered by them."""
PATIENCE = 60.0


def run(setting: Setting) -> list[Row]:
    """Measure all three."""
    return [*_bulk(setting), *_latency(setting), *_requests(setting)]


# --- bulk


def _bulk(setting: Setting) -> list[Row]:
    count, rounds = setting.sizes.consul_imports
    imports = [imported_service(f"service-{number:05}") for number in range(count)]
    bare: list[float] = []
    ours: dict[int, list[float]] = {size: [] for size in CALLS}
    unchanged: list[float] = []
    with _consul("bulk") as consul:
        bodies = _bodies(imports)
        for number in range(rounds):
            setting.step(f"{count:,} imports: round {number + 1} of {rounds}")
            bare.append(_bare_bulk(consul, bodies))
            for size in CALLS:
                written, again = _our_bulk(consul, imports, size)
                ours[size].append(written)
                unchanged.append(again)
    note = "reference: /v1/txn of 64 operations; 70 % of its rate is a ratio of 1.43"
    return [
        *(
            compared("consul", f"{count:,} imports into an empty Consul, {size:,} a call", "s", times, bare, note)
            for size, times in ours.items()
        ),
        alone("consul", f"{count:,} imports, nothing to change", "s", unchanged, "listed, decided; no transaction"),
    ]


def _bodies(imports: list[ImportedService]) -> list[bytes]:
    """The transactions that write the same entries without a condition."""
    operations = [
        {"Service": {"Verb": "set", "Node": "bare", "Service": entry.service()}}
        for one in imports
        for entry in entries_for(one, one.local_name.replace(".", "-"))
    ]
    starts = range(0, len(operations), TXN_OPERATIONS)
    return [json.dumps(operations[start : start + TXN_OPERATIONS]).encode() for start in starts]


def _bare_bulk(consul: Consul, bodies: list[bytes]) -> float:
    consul.do("PUT", "/v1/catalog/register", {"Node": "bare", "Address": "192.0.2.1"})
    with closing(http.client.HTTPConnection("127.0.0.1", consul.port)) as connection:
        began = time.monotonic()
        for body in bodies:
            connection.request("PUT", "/v1/txn", body=body)
            response = connection.getresponse()
            response.read()
            assert response.status == 200, "Consul refused what it is to be measured by"
        took = time.monotonic() - began
    consul.wipe()
    return took


def _our_bulk(consul: Consul, imports: list[ImportedService], size: int) -> tuple[float, float]:
    """Seconds to find the registry empty and write everything; seconds to find it as it should be."""
    changes = [WriteImport(one) for one in imports]

    def reconcile(registry: ConsulRegistry) -> float:
        began = time.monotonic()
        registry.registry_imports()
        for start in range(0, len(changes), size):
            outcomes = registry.registry_apply(changes[start : start + size])
            assert {one.status for one in outcomes} == {Status.APPLIED}, "not everything was written"
        return time.monotonic() - began

    with closing_registry(consul) as registry:
        written = reconcile(registry)
    with closing_registry(consul) as registry:
        again = reconcile(registry)
        assert registry.requests.snapshot()["txn"] == 0, "something was written that stood"
        standing = {one.key: one.digest for one in registry.registry_imports()}
    assert standing == {one.key: one.digest for one in imports}, "Consul holds something else"
    consul.wipe()
    return written, again


# --- latency


def _latency(setting: Setting) -> list[Row]:
    changes, standing = setting.sizes.consul_changes
    ours: list[float] = []
    bare: list[float] = []
    with ExitStack() as stack:
        meshes = [Mesh(root=setting.root, name=name) for name in ("west", "east")]
        consuls = [stack.enter_context(_consul(mesh.name)) for mesh in meshes]
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
        with _consul("requests") as consul, closing_registry(consul) as registry:
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


@contextmanager
def closing_registry(consul: Consul) -> Iterator[ConsulRegistry]:
    """The adapter on this Consul, as an agent of mesh `west` opens it."""
    options = ConsulOptions(address=consul.address)
    context = AdapterContext(
        name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=consul.folder
    )
    registry = ConsulRegistry(options, context)
    try:
        yield registry
    finally:
        registry.registry_close()


@contextmanager
def _consul(datacenter: str) -> Iterator[Consul]:
    consul = Consul(ensure("consul"), datacenter=datacenter)
    try:
        consul.start()
        yield consul
    finally:
        consul.close()
