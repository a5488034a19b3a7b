"""What a change means for Consul, decided on what stands: which entries to write and to delete, or why not.

The one thing it writes is the node of a peer that has none yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hamlet_consul.client import Client, Operation
from hamlet_consul.entries import Entry, entries_for, key_of, new_node
from hamlet_consul.naming import hashed_name, node_name, service_name
from hamlet_consul.table import Held, ImportTable
from hamlet_core.api import AdapterContext, ImportChange, InvalidService, RegistryUnavailable, WriteImport


class InTheWay(InvalidService):
    """Something of someone else stands where the import would: the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one change needs: entries to write and entries to delete on one node, together or not at all.

    `position` is the change's among those of the call.
    """

    position: int
    change: ImportChange
    node: str
    write: tuple[Entry, ...] = ()
    delete: tuple[Entry, ...] = ()

    def operations(self) -> list[Operation]:
        """As a transaction takes them; deletions first, so that an ID may change its name."""
        return [
            {"Service": {"Verb": verb, "Node": self.node, "Service": entry.service()}}
            for verb, entries in (("delete-cas", self.delete), ("cas", self.write))
            for entry in entries
        ]


class Names:
    """Which Consul names are taken, and by whom.

    `listed` is every name in the catalog; where it is None the catalog is asked once, when a new name is wanted.
    """

    def __init__(
        self, table: ImportTable, client: Client, local: Collection[str], listed: Collection[str] | None = None
    ) -> None:
        self._table, self._client, self._local = table, client, local
        self._taken: dict[str, str] = {}
        self._listed = listed
        self._reread = False

    def choose(self, local_name: str, standing: Sequence[Entry]) -> str:
        """The name for an import, `InTheWay` where someone else has it. One that stands keeps its name."""
        for entry in standing:
            if entry.local_name == local_name and entry.name not in self._local:
                return entry.name
        name = service_name(local_name)
        ours = self._ours(name)
        if ours - {local_name}:
            name = hashed_name(local_name)
            ours = self._ours(name)
        if not ours and name in self._catalog() and not self._reread:
            # A write of ours whose answer was lost may have been made after we read what stands.
            self._reread = True
            self._table.load()
            return self.choose(local_name, standing)
        if name in self._local or (not ours and name in self._catalog()):
            message = f"the service {name!r} is in the way: it is in the catalog and does not carry our mark"
            raise InTheWay(message)
        self._taken[name] = local_name
        return name

    def _ours(self, name: str) -> set[str]:
        taken = {self._taken[name]} if name in self._taken else set()
        return self._table.local_names(name) | taken

    def _catalog(self) -> Collection[str]:
        if self._listed is None:
            self._listed = self._client.begin_names().result()
        return self._listed


class Decider:
    """Decides one change after the other."""

    def __init__(self, client: Client, context: AdapterContext, table: ImportTable) -> None:
        self._client, self._context, self._table = client, context, table
        self._drafts: dict[int, tuple[Entry, ...]] = {}

    def adds(self, change: ImportChange) -> bool:
        """Whether the change is an import of which nothing stands yet."""
        held = self._table.get(node_name(self._context.mesh, change.key.peer))
        return isinstance(change, WriteImport) and not (held and held.of(change.key))

    def draft(self, changes: Sequence[ImportChange], enough: Callable[[], bool]) -> None:
        """Use the time until `enough`: make entries under the names that these imports are likely to have."""
        self._drafts = {}
        for position, change in enumerate(changes):
            if enough():
                return
            if isinstance(change, WriteImport):
                with suppress(InvalidService):  # it is said when the change is decided
                    self._drafts[position] = entries_for(change.service, service_name(change.service.local_name))

    def decide(self, position: int, change: ImportChange, names: Names) -> Unit:
        """What the change needs, which may be nothing; `InvalidService` when it cannot be made as it is."""
        key = change.key
        node = node_name(self._context.mesh, key.peer)
        held = self._table.get(node)
        mine = held.of(key) if held and held.node.belongs_to(self._context) else ()
        if not isinstance(change, WriteImport):
            return Unit(position=position, change=change, node=node, delete=mine)
        name = names.choose(change.service.local_name, mine)
        wanted = self._drafts.pop(position, ())
        if not wanted or wanted[0].name != name:
            wanted = entries_for(change.service, name)
        held = self._ensure_node(node, key.peer)
        write = []
        for entry in wanted:
            stands = held.entries.get(entry.id)
            if stands is None:
                write.append(entry)
                continue
            if key_of(stands, key.peer) is None:
                message = f"the service {stands.id!r} on node {node!r} is in the way and does not carry our mark"
                raise InTheWay(message)
            if not entry.same_as(stands):
                write.append(entry.at(stands.index))
        ids = {entry.id for entry in wanted}
        delete = tuple(entry for entry in held.of(key) if entry.id not in ids)
        return Unit(position=position, change=change, node=node, write=tuple(write), delete=delete)

    def _ensure_node(self, name: str, peer: str) -> Held:
        """Have the node of a peer; `InTheWay` when another's stands in its place."""
        held = self._table.get(name)
        if held is None:
            node = new_node(self._context, peer)
            result = self._client.transact(node.operations(peer, None))
            if not result.errors:
                return self._table.note_node(node, result.written)
            held = self._table.reload(name)
            if held is None:
                message = f"node {name} cannot be made: {result.errors[0][1]}"
                raise RegistryUnavailable(message, mend=f'the token needs node "{name}" (write)')
        if not held.node.belongs_to(self._context):
            message = f"node {name!r} is in the way: it lacks the mark of registry {self._context.name!r}"
            raise InTheWay(message)
        return held
