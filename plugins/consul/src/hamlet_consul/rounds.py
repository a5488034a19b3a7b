"""Transactions, filled with whole units and sent while the next ones are still being decided.

A failing unit makes its transaction fail; the others of it are tried again without it. What a failure means
is not decided here.

One thread sends, decides and reads: answers that threads of their own read would each wait for the interpreter
as long as the next batch is being decided, and Consul would wait with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from hamlet_consul.client import TXN_OPERATIONS, Client, PendingTxn, TxnResult, Written
from hamlet_consul.decide import Unit
from hamlet_consul.table import ImportTable
from hamlet_core.api import RegistryUnavailable

TXN_BYTES = 256 * 1024
"""Most bytes of one transaction: half of what Consul takes (`limits.txn_max_req_len`)."""
AT_ONCE = 2
"""Transactions under way: Consul has the next one before its answer to the last was read."""
Encoded = tuple[Unit, list[bytes]]
"""A unit, and its operations as they are sent."""


@dataclass(slots=True)
class Made:
    """What became of units: made, by their positions, or failed with Consul's reason.

    `error`: some could not be tried.
    """

    made: list[int] = field(default_factory=list)
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    error: RegistryUnavailable | None = None


class Rounds:
    """Takes units and makes them in batches; `finish` waits for all. Use it as a context.

    The units between two calls of `finish` are of different imports. After an error nothing more is sent.
    """

    def __init__(self, client: Client, table: ImportTable) -> None:
        self._client, self._table = client, table
        self._batch: list[Encoded] = []
        self._operations = self._size = 0
        self._under_way: deque[tuple[list[Encoded], PendingTxn]] = deque()
        self._result = Made()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _batch, pending in self._under_way:
            pending.abandon()

    def add(self, unit: Unit) -> None:
        """Take a unit; a transaction that it would overfill is sent without it."""
        texts = [orjson.dumps(operation) for operation in unit.operations()]
        count, size = len(texts), sum(map(len, texts))
        if self._batch and (self._operations + count > TXN_OPERATIONS or self._size + size > TXN_BYTES):
            self._send()
        self._batch.append((unit, texts))
        self._operations += count
        self._size += size

    def finish(self) -> Made:
        """Make the rest, and wait for everything."""
        if self._batch:
            self._send()
        while self._under_way:
            self._settle()
        result, self._result = self._result, Made()
        return result

    def _send(self) -> None:
        batch, operations = self._batch, self._operations
        self._batch = []
        self._operations = self._size = 0
        while len(self._under_way) >= AT_ONCE:
            self._settle()
        if self._result.error is not None:
            return
        try:
            if operations > TXN_OPERATIONS:
                self._make(batch)
                return
            for unit, _ in batch:
                self._table.expect(unit.write)
            pending = self._client.begin_transaction([text for _, texts in batch for text in texts])
            self._under_way.append((batch, pending))
        except RegistryUnavailable as error:
            self._result.error = error

    def _settle(self) -> None:
        """Take the answer to the transaction that was sent first."""
        batch, pending = self._under_way.popleft()
        try:
            result = pending.result()
            if not result.errors:
                self._note(batch, result)
                return
            failed = {_owner(batch, index): reason for index, reason in reversed(result.errors)}
            self._make(self._without(batch, failed))
        except RegistryUnavailable as error:
            self._result.error = self._result.error or error

    def _make(self, units: Sequence[Encoded]) -> None:
        """Make these, one transaction at a time, and without those that fail."""
        left = list(units)
        while left:
            failed = self._attempt(left)
            if not failed:
                return
            left = self._without(left, failed)

    def _without(self, units: Sequence[Encoded], failed: dict[int, str]) -> list[Encoded]:
        """Report those that failed, by their numbers; return the others."""
        self._result.failed += [(units[number][0], reason) for number, reason in failed.items()]
        return [each for number, each in enumerate(units) if number not in failed]

    def _attempt(self, units: Sequence[Encoded]) -> dict[int, str]:
        """Try to make these together: the reasons by the number of the unit that failed, nothing then is made."""
        texts = [text for _, texts in units for text in texts]
        written: tuple[Written, ...] = ()
        for unit, _ in units:
            self._table.expect(unit.write)
        for start in range(0, len(texts), TXN_OPERATIONS):
            # More than one round only for a single import of more entries than a transaction takes.
            result = self._client.transact_texts(texts[start : start + TXN_OPERATIONS])
            if result.errors:
                if start:
                    self._table.reload(units[0][0].node)  # what was made of it before
                return {_owner(units, start + index): reason for index, reason in reversed(result.errors)}
            written += result.written
        self._note(units, TxnResult(written=written))
        return {}

    def _note(self, units: Sequence[Encoded], result: TxnResult) -> None:
        """Take over what Consul wrote: its results are in the order of the operations, deletions have none."""
        written = (each.service for each in result.written if each.service is not None)
        for unit, _ in units:
            for entry in unit.delete:
                self._table.note_deleted(unit.node, entry.id)
            for entry in unit.write:
                self._table.note(unit.node, entry.at(next(written).index))
            self._result.made.append(unit.position)


def _owner(units: Sequence[Encoded], operation: int) -> int:
    """The number of the unit that has this operation."""
    for number, (_, texts) in enumerate(units):
        operation -= len(texts)
        if operation < 0:
            return number
    message = f"Consul reports a failure of operation {operation} after the last"
    raise RegistryUnavailable(message)
