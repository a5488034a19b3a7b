"""What stands on our nodes, as last read or written: the index of each entry is what makes a write conditional.

It may be behind Consul: a write made by it then fails there, and the node is read again. It decides nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from hamlet_consul.client import Client
from hamlet_consul.entries import PEER, Entry, PeerNode, entry_from, key_of, owner_meta, standing
from hamlet_consul.errors import ConsulDenied
from hamlet_consul.sight import MEND, confirm_gone, require_sight
from hamlet_core.api import AdapterContext, ImportKey, StandingImport

INDEXES_KEPT = 1024
"""Of our latest writes: the watch is woken by them and need not look for what changed."""


class Held:
    """A node and what is on it, whoever put it there: by ID, and what is ours also by its import."""

    def __init__(self, node: PeerNode, entries: Iterable[Entry] = ()) -> None:
        self.node = node
        self.entries: dict[str, Entry] = {}
        self._of: dict[ImportKey, dict[str, Entry]] = {}
        self._named: dict[str, dict[str, str]] = {}
        for entry in entries:
            self.put(entry)

    def of(self, key: ImportKey) -> list[Entry]:
        """The entries of one import."""
        return list(self._of.get(key, {}).values())

    def local_names(self, service: str) -> set[str]:
        """The local names of the imports here that have this Consul name."""
        return set(self._named.get(service, {}).values())

    def put(self, entry: Entry) -> None:
        """The entry stands, whatever had its ID before."""
        self.drop(entry.id)
        self.entries[entry.id] = entry
        key = key_of(entry, self.node.meta.get(PEER, ""))
        if key is not None:
            self._of.setdefault(key, {})[entry.id] = entry
            self._named.setdefault(entry.name, {})[entry.id] = entry.local_name

    def drop(self, entry_id: str) -> Entry | None:
        """The entry is gone; return what it was."""
        old = self.entries.pop(entry_id, None)
        key = key_of(old, self.node.meta.get(PEER, "")) if old else None
        if old is not None and key is not None:
            for group, of in ((self._of, key), (self._named, old.name)):
                _discard(group, of, entry_id)
        return old


def _discard(groups: dict[Any, dict[str, Any]], group: Any, entry_id: str) -> None:
    groups[group].pop(entry_id)
    if not groups[group]:
        del groups[group]


class ImportTable:
    """Our nodes by name. Written by the thread that writes to Consul, read also by the one that watches."""

    def __init__(self, client: Client, context: AdapterContext) -> None:
        self._client = client
        self._context = context
        self._nodes: dict[str, Held] = {}
        self._tags: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {}
        self._indexes: deque[int] = deque(maxlen=INDEXES_KEPT)
        self._complete = False
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read all our nodes; `RegistryUnavailable` rather than leave one out for want of a right."""
        wanted = [("node", "", "read"), ("service", "", "read")]
        if self._client.denied(wanted):
            message = "the token does not see all nodes and services, so it cannot be told what is imported"
            raise ConsulDenied(message, mend=MEND)
        require_sight(self._client)
        found = {node["Node"] for node in self._client.nodes(owner_meta(self._context)).data or ()}
        confirm_gone(self._client, (), set(self._nodes) - found)
        for name in set(self._nodes) - found:
            self._replace(name, None)
        for name in found:
            self.reload(name)
        self._complete = True

    def refresh(self) -> None:
        """Read what is not known, or no longer true: all our nodes, or those that changed or are gone since.

        A Consul that lost its data shows by that. An entry that someone edited does not: writing it will fail.
        """
        if not self._complete:
            self.load()
            return
        found = {
            node["Node"]: node["ModifyIndex"] for node in self._client.nodes(owner_meta(self._context)).data or ()
        }
        ours = {name for name, held in self._nodes.items() if held.node.belongs_to(self._context)}
        confirm_gone(self._client, (), ours - found.keys())
        for name in set(self._nodes) - ours:
            self._replace(name, None)  # someone else's that was in the way: it may be gone by now
        for name in ours | found.keys():
            if name not in self._nodes or self._nodes[name].node.index != found.get(name):
                self.reload(name)

    def invalidate(self) -> None:
        """Something may have been written that we do not know of: read all again before the next write."""
        self._complete = False

    def reload(self, name: str) -> Held | None:
        """Read one node, ours or not; None where there is none."""
        data = self._client.node_services(name).data
        if not data or not data.get("Node"):
            self._replace(name, None)
            return None
        node = data["Node"]
        held = Held(
            PeerNode(name=name, meta=node.get("Meta") or {}, index=node["ModifyIndex"]),
            map(entry_from, data.get("Services") or ()),
        )
        self._replace(name, held)
        return held

    def get(self, name: str) -> Held | None:
        """A node as it was last seen."""
        return self._nodes.get(name)

    def standing(self) -> list[StandingImport]:
        """Every import on our nodes."""
        return [
            one
            for held in self._nodes.values()
            if held.node.belongs_to(self._context)
            for one in standing(held.node, held.entries.values())
        ]

    def local_names(self, service: str) -> set[str]:
        """The local names of our imports that have this Consul name."""
        return {
            local_name
            for held in tuple(self._nodes.values())
            if held.node.belongs_to(self._context)
            for local_name in held.local_names(service)
        }

    def note_node(self, node: PeerNode, written: Iterable[dict[str, Any]]) -> Held:
        """A node was written; these are the transaction's results."""
        made = next(result["Node"] for result in written if "Node" in result)
        old = self._nodes.get(node.name)
        held = Held(
            PeerNode(name=node.name, meta=made.get("Meta") or {}, index=made["ModifyIndex"]),
            old.entries.values() if old else (),
        )
        self._replace(node.name, held)
        return held

    def expect(self, name: str, entries: Iterable[Entry]) -> None:
        """These are about to be written: the watch may see them before the answer is here."""
        with self._lock:
            for entry in entries:
                self._tags.setdefault(entry.name, {})[name, entry.id] = entry.tags

    def note(self, name: str, entry: Entry) -> None:
        """An entry of a node was written, and has its new index."""
        with self._lock:
            if name in self._nodes:  # if not, someone took it out meanwhile
                self._nodes[name].put(entry)
            self._tags.setdefault(entry.name, {})[name, entry.id] = entry.tags
            if not self._indexes or self._indexes[-1] != entry.index:
                self._indexes.append(entry.index)

    def note_deleted(self, name: str, entry_id: str) -> None:
        """An entry of a node was deleted."""
        with self._lock:
            gone = self._nodes[name].drop(entry_id) if name in self._nodes else None
            if gone is not None:
                self._tags.get(gone.name, {}).pop((name, entry_id), None)

    def forget(self, name: str) -> None:
        """A node is gone."""
        self._replace(name, None)

    def tags(self, service: str) -> set[str]:
        """The tags that entries of ours give to a service of this name: for the thread that watches."""
        with self._lock:
            return {tag for tags in self._tags.get(service, {}).values() for tag in tags}

    def wrote_at(self, index: int) -> bool:
        """Whether a write of ours has this index: for the thread that watches."""
        with self._lock:
            return index in self._indexes

    def _replace(self, name: str, held: Held | None) -> None:
        with self._lock:
            old = self._nodes.pop(name, None)
            for entry in old.entries.values() if old else ():
                self._tags.get(entry.name, {}).pop((name, entry.id), None)
            if held is not None:
                self._nodes[name] = held
                for entry in held.entries.values():
                    self._tags.setdefault(entry.name, {})[name, entry.id] = entry.tags
