"""The compacted log of one audience: what its services are, and in which order they last changed.

It knows its readers only by how far they have come, packs nothing and delivers nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

SLACK = 64
"""Superseded slots that are always tolerated, so that a small log is not rewritten at each change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A service serialised once per version of the protocol."""

    v1alpha1: bytes
    v1alpha2: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """The latest state of the service `name`; without a `payload` it is gone (a tombstone).

    `created` is the version at which the service appeared, for who must tell a creation from a change; 0
    where that is not known.
    """

    version: int
    name: str
    payload: Payload | None
    created: int = 0


class Reader(Protocol):
    """What the log must know of who reads it."""

    @property
    def passed(self) -> int:
        """No tombstone up to this version is still needed."""

    def changed(self) -> None:
        """Something new is there."""

    def fall_behind(self) -> None:
        """A tombstone that was still needed is gone, and the log knows the reader no more."""


class Log:
    """One entry per name, and a list of (version, name) slots in version order.

    A change appends a slot and leaves the earlier one of the same name superseded; when more than half of
    the slots are superseded the list is written anew, so a change costs O(1) on average and the list is
    never longer than twice what it stands for.

    A tombstone is dropped when all readers have passed it. Readers that do not go on cannot keep
    them for ever: when there are more than `least_tombstones` and than there ever were services since the
    tombstones were last all gone, the oldest ones go, and a reader that still needed one falls behind.
    The peak and not the present number counts: else the removal of a whole mesh would cut off every reader
    that is up to date, just because all removals come before the first one can be read.
    """

    __slots__ = ("_least_tombstones", "_names", "_peak", "_versions", "entries", "readers", "retired", "tombstones")

    def __init__(self, least_tombstones: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.tombstones: OrderedDict[str, int] = OrderedDict()
        self.readers: set[Reader] = set()
        self.retired = False
        self._least_tombstones = least_tombstones
        self._peak = 0
        self._versions: list[int] = []
        self._names: list[str] = []

    def __len__(self) -> int:
        """The number of slots, superseded ones included: what memory is counted by."""
        return len(self._versions)

    @property
    def live(self) -> int:
        """How many services there are."""
        return len(self.entries) - len(self.tombstones)

    def append(self, entry: Entry) -> None:
        """Make `entry`, of a version higher than all before, the latest state of its name."""
        if not self.tombstones:
            self._peak = self.live
        self.entries[entry.name] = entry
        self.tombstones.pop(entry.name, None)
        if entry.payload is None:
            self.tombstones[entry.name] = entry.version
        self._versions.append(entry.version)
        self._names.append(entry.name)
        self._peak = max(self._peak, self.live)
        if self._limit_tombstones() or not self.readers:
            self.drop_passed()
        self._compact()
        for reader in tuple(self.readers):
            reader.changed()

    def after(self, version: int) -> Iterator[tuple[int, Entry | None]]:
        """The slots after `version` in order; None stands in a superseded one. Not to be changed meanwhile."""
        for slot in range(bisect_right(self._versions, version), len(self._versions)):
            entry = self.entries.get(self._names[slot])
            current = entry is not None and entry.version == self._versions[slot]
            yield self._versions[slot], entry if current else None

    def advanced(self, before: int, passed: int) -> None:
        """A reader went on from `before` to `passed`; look only if it was one that a tombstone waited for."""
        oldest = next(iter(self.tombstones.values()), None)
        if oldest is not None and before < oldest <= passed:
            self.drop_passed()

    def drop_passed(self) -> None:
        """Drop the tombstones that no reader needs any more."""
        if self.tombstones:
            passed = min((reader.passed for reader in self.readers), default=None)
            while self.tombstones:
                name, version = next(iter(self.tombstones.items()))
                if passed is not None and version > passed:
                    break
                del self.tombstones[name], self.entries[name]
        self._compact()

    def _limit_tombstones(self) -> bool:
        """Drop the oldest tombstones beyond the limit; True when a reader fell behind by that."""
        fallen = False
        while len(self.tombstones) > max(self._least_tombstones, self._peak):
            name, version = self.tombstones.popitem(last=False)
            del self.entries[name]
            for reader in [reader for reader in self.readers if reader.passed < version]:
                self.readers.discard(reader)
                reader.fall_behind()
                fallen = True
        return fallen

    def _compact(self) -> None:
        if len(self._versions) > 2 * len(self.entries) + SLACK:
            kept = [entry for _, entry in self.after(-1) if entry is not None]
            self._versions = [entry.version for entry in kept]
            self._names = [entry.name for entry in kept]
