"""Writes imports into Consul: decided against what stands, in transactions of up to 64 conditional operations.

Each operation names the index at which it was decided, so an edit of someone else in between makes it fail,
not vanish. A write whose answer was lost may still take effect: what it changed then has another index,
the next write by the old one fails, and is decided anew on what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from hamlet_consul.client import Client
from hamlet_consul.decide import Decider, Names, Unit
from hamlet_consul.entries import key_of
from hamlet_consul.naming import node_name
from hamlet_consul.rounds import Made, Rounds
from hamlet_consul.table import ImportTable
from hamlet_core.api import (
    AdapterContext,
    ImportChange,
    ImportKey,
    InvalidService,
    Outcome,
    RegistryUnavailable,
    Status,
)

CONFLICTS = ("index is stale", "Missing node registration")
"""How Consul says that something is no longer as it was when the operation was decided."""


class Writer:
    """Applies changes for one agent. Not for several threads at once.

    `local_names` are the services of the mesh as far as a watch knows them.
    """

    def __init__(
        self, client: Client, context: AdapterContext, table: ImportTable, local_names: Callable[[], Collection[str]]
    ) -> None:
        self._client, self._context, self._table, self._local_names = client, context, table, local_names
        self._decider = Decider(client, context, table)

    def apply(self, changes: Sequence[ImportChange]) -> list[Outcome]:
        """Make the changes; one outcome each, in order. `RegistryUnavailable` when none could be tried."""
        outcomes: dict[int, Outcome] = {}
        try:
            self._table.refresh()
            with Rounds(self._client, self._table) as rounds:
                thinned = self._begin(changes, rounds, outcomes)
                self._finish(rounds, changes, outcomes)
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
        reason = ""
        for _ in range(2):
            held = self._table.get(name)
            if held is None or not held.node.belongs_to(self._context) or held.node.lost_since == lost_since:
                return
            result = self._client.transact(held.node.operations(peer, lost_since))
            if not result.errors:
                self._table.note_node(held.node, result.written)
                return
            reason = result.errors[0][1]
            self._table.reload(name)
        message = f"node {name} cannot be marked: {reason}"
        raise RegistryUnavailable(message, mend=f'the token needs node "{name}" (write)')

    def _begin(self, changes: Sequence[ImportChange], rounds: Rounds, outcomes: dict[int, Outcome]) -> set[str]:
        """Decide the changes and hand them over; return the nodes on which something is deleted."""
        names = self._listed_names(changes)
        decided: set[ImportKey] = set()
        thinned: set[str] = set()
        for position, change in enumerate(changes):
            key = change.key
            if key in decided:  # it is decided on what the earlier change makes of it
                self._finish(rounds, changes, outcomes)
                decided.clear()
            decided.add(key)
            unit = self._decide(position, change, names, outcomes)
            if unit is not None:
                rounds.add(unit)
                if unit.delete:
                    thinned.add(unit.node)
        return thinned

    def _decide(self, position: int, change: ImportChange, names: Names, outcomes: dict[int, Outcome]) -> Unit | None:
        """What there is to do; None, and an outcome, where there is nothing or it cannot be done."""
        try:
            unit = self._decider.decide(position, change, names)
        except InvalidService as error:
            outcomes[position] = _outcome(change, Status.REJECTED, str(error))
            return None
        if unit.write or unit.delete:
            return unit
        outcomes[position] = _outcome(change, Status.APPLIED)
        return None

    def _finish(self, rounds: Rounds, changes: Sequence[ImportChange], outcomes: dict[int, Outcome]) -> None:
        """Wait for what was handed over; what conflicts is decided anew, on what stands then, and tried once more."""
        conflicts = self._record(rounds.finish(), changes, outcomes)
        if not conflicts:
            return
        for node in {unit.node for unit, _ in conflicts}:
            self._table.reload(node)
        names = self._names()
        for old, reason in conflicts:
            if self._edited(old):
                said = f"{old.change.key.name}: {reason}: someone else edited it meanwhile"
                outcomes[old.position] = _outcome(old.change, Status.RETRY, said)
                continue
            unit = self._decide(old.position, old.change, names, outcomes)
            if unit is not None:
                rounds.add(unit)
        for unit, reason in self._record(rounds.finish(), changes, outcomes):
            outcomes[unit.position] = _outcome(unit.change, Status.RETRY, f"{unit.change.key.name}: {reason}")

    def _record(
        self, made: Made, changes: Sequence[ImportChange], outcomes: dict[int, Outcome]
    ) -> list[tuple[Unit, str]]:
        """Note what became of units; return those in conflict with what stands."""
        for position in made.made:
            outcomes[position] = _outcome(changes[position], Status.APPLIED)
        conflicts = []
        for unit, reason in made.failed:
            if any(known in reason for known in CONFLICTS):
                conflicts.append((unit, reason))
                continue
            status, right = Status.REJECTED, ""
            if "Permission denied" in reason:
                status = Status.RETRY
                right = f': the token needs service_prefix "" (write) and node "{unit.node}" (write)'
            outcomes[unit.position] = _outcome(unit.change, status, f"{unit.change.key.name}: {reason}{right}")
        if made.error is not None:
            raise made.error
        return conflicts

    def _edited(self, unit: Unit) -> bool:
        """Whether an entry of ours that was to be written has since been changed by someone else."""
        held = self._table.get(unit.node)
        for decided in (*unit.write, *unit.delete):
            stands = held.entries.get(decided.id) if held and decided.index else None
            if stands is not None and stands.index != decided.index and not stands.intact:
                return key_of(stands, unit.change.key.peer) is not None
        return False

    def _listed_names(self, changes: Sequence[ImportChange]) -> Names:
        """What names are taken. Consul takes its time to list them, which is used."""
        if not any(map(self._decider.adds, changes)):
            self._decider.draft((), lambda: True)
            return self._names()
        asked = self._client.begin_names()
        self._decider.draft(changes, lambda: asked.answered)
        return Names(self._table, self._client, self._local_names(), asked.result())

    def _names(self) -> Names:
        return Names(self._table, self._client, self._local_names())

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


def _outcome(change: ImportChange, status: Status, reason: str = "") -> Outcome:
    return Outcome(key=change.key, status=status, reason=reason)
