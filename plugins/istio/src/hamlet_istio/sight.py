"""Who has which host and which virtual address among the ServiceEntries that can be seen. Kept by the watch."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Place = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True)
class Taken:
    """Hosts by who has them, and addresses likewise."""

    hosts: dict[str, set[Place]] = field(default_factory=dict)
    addresses: dict[str, set[Place]] = field(default_factory=dict)
    whose: dict[Place, Object] = field(default_factory=dict)

    def put(self, entry: Object) -> None:
        """Note an entry, in place of what was noted of it."""
        place = (entry["metadata"]["namespace"], entry["metadata"]["name"])
        self.drop(place)
        self.whose[place] = entry
        for index, key in ((self.hosts, "hosts"), (self.addresses, "addresses")):
            for each in (entry.get("spec") or {}).get(key) or ():
                index.setdefault(each, set()).add(place)

    def drop(self, place: Place) -> None:
        """Forget an entry."""
        known = self.whose.pop(place, None)
        if known is None:
            return
        for index, key in ((self.hosts, "hosts"), (self.addresses, "addresses")):
            for each in (known.get("spec") or {}).get(key) or ():
                holders = index.get(each, set())
                holders.discard(place)
                if not holders:
                    index.pop(each, None)

    def holder(self, host: str, own: Place) -> Object | None:
        """An entry other than `own` that has the host and can be seen outside its namespace."""
        for place in sorted(self.hosts.get(host, ())):
            found = self.whose[place]
            hidden = (found.get("spec") or {}).get("exportTo") == ["."] and place[0] != own[0]
            if place != own and not hidden:
                return found
        return None

    def taken_from(self, own: Place) -> frozenset[str]:
        """The addresses that others than `own` have."""
        return frozenset(address for address, holders in self.addresses.items() if holders - {own})


def taken_by(entries: Iterable[Object]) -> Taken:
    """What these entries have."""
    found = Taken()
    for entry in entries:
        found.put(entry)
    return found


class Sight:
    """The entries as the watch sees them now, for the writer on another thread; empty-handed without a watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Place, Object] | None = None

    def show(self, entries: Mapping[Place, Object] | None) -> None:
        """Replace what is seen; None: nothing is watched."""
        with self._lock:
            self._entries = dict(entries) if entries is not None else None

    def change(self, place: Place, entry: Object | None) -> None:
        """Note one entry, or that it is gone."""
        with self._lock:
            if self._entries is not None:
                self._entries.pop(place, None)
                if entry is not None:
                    self._entries[place] = entry

    def entries(self) -> list[Object] | None:
        """What is seen, or None when nothing is watched now."""
        with self._lock:
            return list(self._entries.values()) if self._entries is not None else None
