"""Imports written in bulk into an empty Consul and reconciled, beside a minimal client that fills /v1/txn.

The minimal client knows what it has to write and nothing else: one thread, as many kept connections as the
adapter has transactions under way, bodies of 64 operations encoded by the standard library, each answer decoded
and looked at for errors. It lists nothing, compares nothing, sets no condition, and forgets what it wrote.
"""

from __future__ import annotations

import gc
import http.client
import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import ceil
from typing import Any

from hamlet_consul.client import TXN_OPERATIONS
from hamlet_consul.entries import entries_for
from hamlet_consul.registry import ConsulRegistry
from hamlet_consul.rounds import AT_ONCE

from bench.consul_opened import opened, real_consul
from bench.measure import Row, compared
from bench.setting import Setting
from hamlet_core.api import ImportedService, Status, WriteImport
from hamlet_core.api.testing import imported_service
from hamlet_core.imports.plan import plan
from tests.backends.consul import Consul

CALLS = (1, 5)
"""Into how many calls of the adapter the imports are divided; of 5,000 the agent makes five."""
NOTE = "reference: a minimal client of /v1/txn; 70 % of its rate is a ratio of 1.43"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One time of writing everything. Times are in seconds; `processor` is our own process's, Consul not counted.

    `reconciled` is `written` and the time to list what stands then and to find by the core's plan that nothing is
    left to do.
    """

    written: float
    processor: float
    requests: int
    reconciled: float = 0.0


def run(setting: Setting) -> list[Row]:
    """Measure with a Consul that keeps its state in memory (`-dev`), and with one that writes it to its disk."""
    return [*_measure(setting, durable=False), *_measure(setting, durable=True)]


def _measure(setting: Setting, *, durable: bool) -> list[Row]:
    """Pairs of both, one after the other; the first pair of each shape is not counted."""
    count, rounds = setting.sizes.consul_imports
    where = "on disk" if durable else "in memory"
    pairs: dict[int, list[tuple[Round, Round]]] = {ceil(count / calls): [] for calls in CALLS}
    with real_consul("bulk", durable=durable) as consul:
        operations = _operations(count)
        for number in range(rounds + 1):
            setting.step(f"{count:,} imports {where}: pair {number} of {rounds}")
            for size, measured in pairs.items():
                pair = _write_minimally(consul, operations), _write(consul, count, size)
                if number:
                    measured.append(pair)
    return [
        row
        for size, measured in pairs.items()
        for row in _rows(f"{count:,} imports {where}, {size:,} a call", measured)
    ]


def _rows(what: str, pairs: Sequence[tuple[Round, Round]]) -> list[Row]:
    bare, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    reference = [each.written for each in bare]
    return [
        compared("consul", f"{what}: written", "s", [each.written for each in ours], reference, NOTE),
        compared("consul", f"{what}: written, reconciled", "s", [each.reconciled for each in ours], reference, NOTE),
        compared(
            "consul",
            f"{what}: processor time of the client",
            "s",
            [each.processor for each in ours],
            [each.processor for each in bare],
            "without Consul's",
        ),
        compared(
            "consul",
            f"{what}: requests",
            "requests",
            [each.requests for each in ours],
            [each.requests for each in bare],
            "looks at what stands, the peer's node and the transactions",
        ),
    ]


def _operations(count: int) -> list[dict[str, Any]]:
    """The same entries, on a node of their own."""
    return [
        {"Service": {"Verb": "set", "Node": "bare", "Service": entry.service()}}
        for one in _imports(count)
        for entry in entries_for(one, one.local_name.replace(".", "-"))
    ]


def _imports(count: int) -> list[ImportedService]:
    """New ones; their digests are known, since the core compares them before it has anything written."""
    imports = [imported_service(f"service-{number:05}") for number in range(count)]
    assert all(one.digest for one in imports), "a digest is worked out when it is first asked for"
    return imports


def _settle_memory() -> None:
    """Leave what stands out of later collections, as the agent does once it has started."""
    gc.collect()
    gc.freeze()


def _write_minimally(consul: Consul, operations: Sequence[dict[str, Any]]) -> Round:
    consul.do("PUT", "/v1/catalog/register", {"Node": "bare", "Address": "192.0.2.1"})
    with ExitStack() as stack:
        free = deque(
            stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", consul.port))) for _ in range(AT_ONCE)
        )
        under_way: deque[http.client.HTTPConnection] = deque()
        starts = range(0, len(operations), TXN_OPERATIONS)
        _settle_memory()
        began, used = time.monotonic(), time.process_time()
        for start in starts:
            body = json.dumps(operations[start : start + TXN_OPERATIONS])
            if not free:
                free.append(_settled(under_way.popleft()))
            connection = free.popleft()
            connection.request("PUT", "/v1/txn", body=body)
            under_way.append(connection)
        while under_way:
            _settled(under_way.popleft())
        took = Round(written=time.monotonic() - began, processor=time.process_time() - used, requests=len(starts))
    consul.wipe()
    return took


def _settled(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    """The connection, free again: its answer was read and is good."""
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200 or json.loads(answer)["Errors"]:
        message = f"Consul refused what the adapter is measured by: {answer[:300]!r}"
        raise RuntimeError(message)
    return connection


def _write(consul: Consul, count: int, size: int) -> Round:
    imports = _imports(count)
    desired = {one.key: one for one in imports}
    with opened(consul) as registry:
        _settle_memory()
        began, used = time.monotonic(), time.process_time()
        _hand_over(registry, imports, size)
        written, processor = time.monotonic() - began, time.process_time() - used
        requests = registry.requests.snapshot().total()
        left = plan(desired, {one.key: one for one in registry.registry_imports()})
        reconciled = time.monotonic() - began
    assert not left, "Consul holds something else"
    consul.wipe()
    return Round(written=written, processor=processor, requests=requests, reconciled=reconciled)


def _hand_over(registry: ConsulRegistry, imports: Sequence[ImportedService], size: int) -> None:
    """Find out what stands, then have everything written."""
    registry.registry_imports()
    changes = [WriteImport(one) for one in imports]
    for start in range(0, len(changes), size):
        outcomes = registry.registry_apply(changes[start : start + size])
        assert {one.status for one in outcomes} == {Status.APPLIED}, "not everything was written"
