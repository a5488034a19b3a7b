"""What stands on our nodes, as last read or written: the index of each entry is what makes a write conditional.

It may be behind Consul: a write made by it then fails there, and the node is read again. It decides nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from hamlet_consul.client import Client, Written
from hamlet_consul.entries import PEER, Entry, PeerNode, entry_from, key_of, owner_meta, standing
from hamlet_consul.sight import confirm_gone, require_full_sight, require_sight
from hamlet_core.api import AdapterContext, ImportKey, StandingImport

INDEXES_KEPT = 1024
"""Of our latest writes: the watch is woken by them and need not look for what changed."""


Group = TypeVar("Group", ImportKey, str)


class Held:
    """A node and what is on it, whoever put it there: by ID, and what is ours also by its import."""

    def __init__(self, node: PeerNode, entries: Iterable[Entry] = ()) -> None:
        self.node = node
        self.entries: dict[str, Entry] = {}
        self._of: dict[ImportKey, tuple[Entry, ...]] = {}
        self._named: dict[str, tuple[Entry, ...]] = {}
        for entry in entries:
            self.put(entry)

    def of(self, key: ImportKey) -> tuple[Entry, ...]:
        """The entries of one import."""
        return self._of.get(key, ())

    def named(self, service: str) -> tuple[Entry, ...]:
        """The entries here that have this Consul name, whoever put them there."""
        return self._named.get(service, ())

    def local_names(self, service: str) -> set[str]:
        """The local names of the imports here that have this Consul name."""
        peer = self.node.meta.get(PEER, "")
        return {entry.local_name for entry in self.named(service) if key_of(entry, peer) is not None}

    def put(self, entry: Entry) -> None:
        """The entry stands, whatever had its ID before."""
        if entry.id in self.entries:
            self.drop(entry.id)
        self.entries[entry.id] = entry
        self._named[entry.name] = (*self.named(entry.name), entry)
        key = key_of(entry, self.node.meta.get(PEER, ""))
        if key is not None:
            self._of[key] = (*self.of(key), entry)

    def drop(self, entry_id: str) -> None:
        """The entry is gone."""
        old = self.entries.pop(entry_id, None)
        if old is None:
            return
        _discard(self._named, old.name, old)
        key = key_of(old, self.node.meta.get(PEER, ""))
        if key is not None:
            _discard(self._of, key, old)


def _discard(groups: dict[Group, tuple[Entry, ...]], group: Group, entry: Entry) -> None:
    left = tuple(each for each in groups.pop(group) if each is not entry)
    if left:
        groups[group] = left


class ImportTable:
    """Our nodes by name. Written by the thread that writes to Consul, read also by the one that watches."""

    def __init__(self, client: Client, context: AdapterContext) -> None:
        self._client = client
        self._context = context
        self._nodes: dict[str, Held] = {}
        self._expected: dict[str, tuple[str, ...]] = {}
        self._indexes: deque[int] = deque(maxlen=INDEXES_KEPT)
        self._complete = False
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read all our nodes; `RegistryUnavailable` rather than leave one out for want of a right."""
        require_full_sight(self._client, "imported")
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
        with self._lock:
            self._expected.clear()  # what was written is known by now; at worst the watch reads a service more
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
        found: set[str] = set()
        for held in self._nodes.values():
            if held.named(service) and held.node.belongs_to(self._context):
                found |= held.local_names(service)
        return found

    def note_node(self, node: PeerNode, written: Iterable[Written]) -> Held:
        """A node was written; these are the transaction's results."""
        made = next(each.node for each in written if each.node is not None)
        old = self._nodes.get(node.name)
        held = Held(
            PeerNode(name=node.name, meta=made.meta or {}, index=made.index),
            old.entries.values() if old else (),
        )
        self._replace(node.name, held)
        return held

    def expect(self, entries: Iterable[Entry]) -> None:
        """These are about to be written: the watch may see them before the answer is here."""
        with self._lock:
            for entry in entries:
                known = self._expected.get(entry.name)
                self._expected[entry.name] = (*known, *entry.tags) if known else entry.tags

    def note(self, name: str, entry: Entry) -> None:
        """An entry of a node was written, and has its new index."""
        with self._lock:
            if name in self._nodes:  # if not, someone took it out meanwhile
                self._nodes[name].put(entry)
            if not self._indexes or self._indexes[-1] != entry.index:
                self._indexes.append(entry.index)

    def note_deleted(self, name: str, entry_id: str) -> None:
        """An entry of a node was deleted."""
        with self._lock:
            if name in self._nodes:
                self._nodes[name].drop(entry_id)

    def forget(self, name: str) -> None:
        """A node is gone."""
        self._replace(name, None)

    def tags(self, service: str) -> set[str]:
        """The tags that entries of ours give to a service of this name: for the thread that watches."""
        with self._lock:
            known = {tag for held in self._nodes.values() for entry in held.named(service) for tag in entry.tags}
            return known.union(self._expected.get(service, ()))

    def wrote_at(self, index: int) -> bool:
        """Whether a write of ours has this index: for the thread that watches."""
        with self._lock:
            return index in self._indexes

    def _replace(self, name: str, held: Held | None) -> None:
        with self._lock:
            self._nodes.pop(name, None)
            if held is not None:
                self._nodes[name] = held
