"""Writes imports into Consul: decided against what stands, in transactions of up to 64 conditional operations.

Each operation names the index at which it was decided, so an edit of someone else in between makes it fail,
not vanish. A write whose answer was lost may still take effect: what it changed then has another index,
the next write by the old one fails, and is decided anew on what is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from hamlet_consul.client import TXN_OPERATIONS, Client, Operation
from hamlet_consul.entries import PEER, Entry, entries_for, key_of, new_node
from hamlet_consul.naming import hashed_name, node_name, service_name
from hamlet_consul.table import Held, ImportTable, with_index
from hamlet_core.api import (
    AdapterContext,
    ImportChange,
    ImportKey,
    InvalidService,
    Outcome,
    RegistryUnavailable,
    Status,
    WriteImport,
)

TXN_BYTES = 256 * 1024
"""Most bytes of one transaction: half of what Consul takes (`limits.txn_max_req_len`)."""


@dataclass(slots=True, kw_only=True)
class Unit:
    """What one change needs: entries to write and entries to delete on one node, together or not at all."""

    change: ImportChange
    node: str
    write: list[Entry] = field(default_factory=list)
    delete: list[Entry] = field(default_factory=list)

    def operations(self) -> list[Operation]:
        """As a transaction takes them; deletions first, so that an ID may change its name."""
        return [
            {"Service": {"Verb": verb, "Node": self.node, "Service": entry.service()}}
            for verb, entries in (("delete-cas", self.delete), ("cas", self.write))
            for entry in entries
        ]


class _Refused(Exception):
    """A change that cannot be made as it is."""


class Writer:
    """Applies changes for one agent. Not for several threads at once."""

    def __init__(
        self,
        client: Client,
        context: AdapterContext,
        table: ImportTable,
        local_names: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._client = client
        self._context = context
        self._table = table
        self._local_names = local_names

    def apply(self, changes: Sequence[ImportChange]) -> list[Outcome]:
        """Make the changes; one outcome each, in order. `RegistryUnavailable` when none could be tried."""
        self._table.refresh()
        names = _Names(self._table, self._client, self._local_names())
        outcomes: dict[int, Outcome] = {}
        units: list[tuple[int, Unit]] = []
        decided: set[ImportKey] = set()
        thinned: set[str] = set()
        try:
            for position, change in enumerate(changes):
                if change.key in decided:  # it is decided on what the earlier change makes of it
                    self._transact(units, outcomes)
                    units, decided = [], set()
                decided.add(change.key)
                try:
                    unit = self._decide(change, names)
                except (_Refused, InvalidService) as error:
                    outcomes[position] = _outcome(change, Status.REJECTED, str(error))
                    continue
                if unit.delete:
                    thinned.add(unit.node)
                if unit.write or unit.delete:
                    units.append((position, unit))
                else:
                    outcomes[position] = _outcome(change, Status.APPLIED)
            self._transact(units, outcomes)
            self._drop_empty(thinned)
        except RegistryUnavailable as error:
            self._table.invalidate()
            if not any(outcome.status is Status.APPLIED for outcome in outcomes.values()):
                raise
            for position, change in enumerate(changes):
                outcomes.setdefault(position, _outcome(change, Status.RETRY, str(error)))
        return [outcomes[position] for position in range(len(changes))]

    def mark_peer(self, peer: str, lost_since: datetime | None) -> None:
        """Write on the peer's node since when it is lost. A peer without a node needs no mark."""
        self._table.refresh()
        name = node_name(self._context.mesh, peer)
        for _ in range(2):
            held = self._table.get(name)
            if held is None or not held.node.belongs_to(self._context) or held.node.lost_since == lost_since:
                return
            result = self._client.transact(held.node.operations(peer, lost_since))
            if not result.errors:
                self._table.note_node(held.node, result.written)
                return
            self._table.reload(name)
        message = f"node {name} cannot be marked: {result.errors[0][1]}"
        raise RegistryUnavailable(message)

    def _decide(self, change: ImportChange, names: _Names) -> Unit:
        node = node_name(self._context.mesh, change.key.peer)
        held = self._table.get(node)
        unit = Unit(change=change, node=node)
        mine = held.of(change.key) if held and held.node.belongs_to(self._context) else []
        if not isinstance(change, WriteImport):
            unit.delete = mine
            return unit
        name = names.choose(change.service.local_name, mine)
        wanted = {entry.id: entry for entry in entries_for(change.service, name)}
        held = self._ensure_node(node, change)
        for entry in wanted.values():
            stands = held.entries.get(entry.id)
            if stands is not None and key_of(stands, change.key.peer) is None:
                message = f"the service {stands.id!r} on node {node!r} is in the way and does not carry our mark"
                raise _Refused(message)
            if stands is None or not entry.same_as(stands):
                unit.write.append(replace(entry, index=stands.index if stands else 0))
        unit.delete = [entry for entry in mine if entry.id not in wanted]
        names.take(name, change.service.local_name)
        return unit

    def _ensure_node(self, name: str, change: ImportChange) -> Held:
        """Have the node of the change's peer; `_Refused` when another's stands in its place."""
        held = self._table.get(name)
        if held is None:
            node = new_node(self._context, change.key.peer)
            result = self._client.transact(node.operations(change.key.peer, None))
            if not result.errors:
                return self._table.note_node(node, result.written)
            held = self._table.reload(name)
            if held is None:
                message = f"node {name} cannot be made: {result.errors[0][1]}"
                raise RegistryUnavailable(message, mend=f'the token needs node "{name}" (write)')
        if not held.node.belongs_to(self._context):
            message = f"node {name!r} is in the way: it lacks the mark of registry {self._context.name!r}"
            raise _Refused(message)
        return held

    def _transact(self, units: Sequence[tuple[int, Unit]], outcomes: dict[int, Outcome]) -> None:
        """Make these changes; what conflicts is decided anew, on what stands then, and tried once more."""
        conflicts: list[tuple[int, Unit, str]] = []
        for position, unit, reason in self._rounds(units, outcomes):
            if "Permission denied" in reason:
                right = f'the token needs service_prefix "" (write) and node "{unit.node}" (write)'
                outcomes[position] = _outcome(unit.change, Status.RETRY, f"{unit.change.key.name}: {reason}: {right}")
            elif "index is stale" in reason or "Missing node" in reason:
                conflicts.append((position, unit, reason))
            else:
                outcomes[position] = _outcome(unit.change, Status.REJECTED, f"{unit.change.key.name}: {reason}")
        if conflicts:
            again = self._decide_anew(conflicts, outcomes)
            for position, unit, reason in self._rounds(again, outcomes):
                outcomes[position] = _outcome(unit.change, Status.RETRY, f"{unit.change.key.name}: {reason}")

    def _decide_anew(
        self, conflicts: Sequence[tuple[int, Unit, str]], outcomes: dict[int, Outcome]
    ) -> list[tuple[int, Unit]]:
        for node in {unit.node for _, unit, _ in conflicts}:
            self._table.reload(node)
        names = _Names(self._table, self._client, self._local_names())
        again = []
        for position, old, reason in conflicts:
            if self._edited(old):
                said = f"{old.change.key.name}: {reason}: someone else edited it meanwhile"
                outcomes[position] = _outcome(old.change, Status.RETRY, said)
                continue
            try:
                unit = self._decide(old.change, names)
            except (_Refused, InvalidService) as error:
                outcomes[position] = _outcome(old.change, Status.REJECTED, str(error))
                continue
            if unit.write or unit.delete:
                again.append((position, unit))
            else:
                outcomes[position] = _outcome(unit.change, Status.APPLIED)
        return again

    def _rounds(
        self, units: Sequence[tuple[int, Unit]], outcomes: dict[int, Outcome]
    ) -> Iterator[tuple[int, Unit, str]]:
        """Make what can be made, batch by batch; yield what fails, each with Consul's reason."""
        for left in _batches(units):
            while left:
                failed = self._attempt([unit for _, unit in left])
                if not failed:
                    outcomes.update((position, _outcome(unit.change, Status.APPLIED)) for position, unit in left)
                    break
                yield from ((*left[number], reason) for number, reason in failed.items())
                left = [each for number, each in enumerate(left) if number not in failed]

    def _attempt(self, units: Sequence[Unit]) -> dict[int, str]:
        """Try to make these together: the reasons by the number of the unit that failed, nothing then is made."""
        operations = [(number, operation) for number, unit in enumerate(units) for operation in unit.operations()]
        for unit in units:
            self._table.expect(unit.node, unit.write)
        for start in range(0, len(operations), TXN_OPERATIONS):
            # More than one round only for a single import of more entries than a transaction takes.
            part = operations[start : start + TXN_OPERATIONS]
            result = self._client.transact([operation for _, operation in part])
            if result.errors:
                return {part[index][0]: reason for index, reason in reversed(result.errors)}
            made = iter([one for one in result.written if "Service" in one])
            self._note([operation for _, operation in part], units, made)
        return {}

    def _note(
        self, operations: Sequence[Operation], units: Sequence[Unit], made: Iterator[dict[str, object]]
    ) -> None:
        entries = {(unit.node, entry.id): entry for unit in units for entry in unit.write}
        for operation in operations:
            said = operation["Service"]
            if said["Verb"] == "cas":
                entry = with_index(entries[said["Node"], said["Service"]["ID"]], next(made))
                self._table.note(said["Node"], [entry], [])
            else:
                self._table.note(said["Node"], [], [said["Service"]["ID"]])

    def _edited(self, unit: Unit) -> bool:
        """Whether an entry of ours that was to be written has since been changed by someone else."""
        held = self._table.get(unit.node)
        if held is None:
            return False
        known = {entry.id: entry.index for entry in (*unit.write, *unit.delete)}
        peer = held.node.meta.get(PEER, "")
        return any(
            entry.index != known[entry.id] and key_of(entry, peer) is not None and not entry.intact
            for entry in held.entries.values()
            if known.get(entry.id)
        )

    def _drop_empty(self, nodes: Collection[str]) -> None:
        for name in sorted(nodes):
            held = self._table.get(name)
            if held is None or held.entries or not held.node.belongs_to(self._context):
                continue
            held = self._table.reload(name)  # the node's index does not tell of a service that came
            if held is not None and not held.entries:
                node = {"Node": name, "ModifyIndex": held.node.index}
                if not self._client.transact([{"Node": {"Verb": "delete-cas", "Node": node}}]).errors:
                    self._table.forget(name)


class _Names:
    """Which Consul names are taken, and by whom; the catalog is asked once, when a new name is wanted."""

    def __init__(self, table: ImportTable, client: Client, local: Collection[str]) -> None:
        self._ours = table.names()
        self._client = client
        self._local = local
        self._listed: set[str] | None = None

    def choose(self, local_name: str, standing: Sequence[Entry]) -> str:
        """The name for an import, `_Refused` where someone else has it. One that stands keeps its name."""
        for entry in standing:
            if entry.local_name == local_name and entry.name not in self._local:
                return entry.name
        name = service_name(local_name)
        if self._ours.get(name, {local_name}) != {local_name}:
            name = hashed_name(local_name)
        if name in self._local or (name not in self._ours and name in self._catalog()):
            message = f"the service {name!r} is in the way: it is in the catalog and does not carry our mark"
            raise _Refused(message)
        return name

    def take(self, name: str, local_name: str) -> None:
        """The name is given to an import."""
        self._ours.setdefault(name, set()).add(local_name)

    def _catalog(self) -> set[str]:
        if self._listed is None:
            self._listed = set(self._client.services().data or ())
        return self._listed


def _batches(units: Sequence[tuple[int, Unit]]) -> Iterator[list[tuple[int, Unit]]]:
    """Fill transactions with whole units, as many operations and bytes as one takes."""
    batch: list[tuple[int, Unit]] = []
    operations = size = 0
    for each in units:
        said = each[1].operations()
        length = len(json.dumps(said))
        if batch and (operations + len(said) > TXN_OPERATIONS or size + length > TXN_BYTES):
            yield batch
            batch, operations, size = [], 0, 0
        batch.append(each)
        operations += len(said)
        size += length
    if batch:
        yield batch


def _outcome(change: ImportChange, status: Status, reason: str = "") -> Outcome:
    return Outcome(key=change.key, status=status, reason=reason)
