"""Transactions, filled with whole units and made while the next ones are still being decided.

A failing unit makes its transaction fail; the others of it are tried again without it. What a failure means
is not decided here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from hamlet_consul.client import TXN_OPERATIONS, Client
from hamlet_consul.decide import Unit
from hamlet_consul.entries import Entry
from hamlet_consul.table import ImportTable, with_index
from hamlet_core.api import RegistryUnavailable

TXN_BYTES = 256 * 1024
"""Most bytes of one transaction: half of what Consul takes (`limits.txn_max_req_len`)."""
Written = tuple[Unit, list[str]]
"""A unit, and its operations as they are sent."""
AT_ONCE = 2
"""Transactions under way: Consul works on one while we write and read another."""


@dataclass(slots=True)
class Made:
    """What became of units: made, or failed with Consul's reason. `error`: some could not be tried."""

    made: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    error: RegistryUnavailable | None = None


class Rounds:
    """Takes units and makes them in batches; `finish` waits for all. Use it as a context."""

    def __init__(self, client: Client, table: ImportTable) -> None:
        self._client, self._table = client, table
        self._batch: list[Written] = []
        self._operations = self._size = 0
        self._running: list[Future[Made]] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="consul-write")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def add(self, unit: Unit) -> None:
        """Take a unit; a transaction that it would overfill is begun without it."""
        texts = [json.dumps(operation) for operation in unit.operations()]
        count, size = len(texts), sum(map(len, texts))
        if self._batch and (self._operations + count > TXN_OPERATIONS or self._size + size > TXN_BYTES):
            self._running.append(self._pool.submit(self._make, self._batch))
            self._batch, self._operations, self._size = [], 0, 0
        self._batch.append((unit, texts))
        self._operations += count
        self._size += size

    def finish(self) -> Made:
        """Make the rest and wait for everything."""
        results = [self._make(self._batch)] if self._batch else []
        results += [future.result() for future in self._running]
        self._batch, self._running, self._operations, self._size = [], [], 0, 0
        return Made(
            [unit for result in results for unit in result.made],
            [failed for result in results for failed in result.failed],
            next((result.error for result in results if result.error), None),
        )

    def _make(self, units: Sequence[Written]) -> Made:
        result = Made()
        left = list(units)
        try:
            while left:
                failed = self._attempt(left)
                if not failed:
                    result.made = [unit for unit, _ in left]
                    break
                result.failed += [(left[number][0], reason) for number, reason in failed.items()]
                left = [each for number, each in enumerate(left) if number not in failed]
        except RegistryUnavailable as error:
            result.error = error
        return result

    def _attempt(self, units: Sequence[Written]) -> dict[int, str]:
        """Try to make these together: the reasons by the number of the unit that failed, nothing then is made."""
        operations = [(number, text) for number, (_, texts) in enumerate(units) for text in texts]
        entries = [
            (unit.node, entry, deleted)
            for unit, _ in units
            for deleted, group in ((True, unit.delete), (False, unit.write))
            for entry in group
        ]
        for unit, _ in units:
            self._table.expect(unit.node, unit.write)
        for start in range(0, len(operations), TXN_OPERATIONS):
            # More than one round only for a single import of more entries than a transaction takes.
            part = operations[start : start + TXN_OPERATIONS]
            result = self._client.transact_texts([text for _, text in part])
            if result.errors:
                return {part[index][0]: reason for index, reason in reversed(result.errors)}
            self._note(entries[start : start + TXN_OPERATIONS], result.written)
        return {}

    def _note(self, entries: Sequence[tuple[str, Entry, bool]], written: Sequence[dict[str, object]]) -> None:
        """Take over what Consul wrote: its results are in the order of the operations, deletions have none."""
        results = iter(written)
        for node, entry, deleted in entries:
            if deleted:
                self._table.note_deleted(node, entry.id)
            else:
                self._table.note(node, with_index(entry, next(results)))
