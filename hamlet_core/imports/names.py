"""Names: what a host name is, how an alias is made, and which import has which local name.

The rule for collisions stands in `NameTable`. Nothing here knows policy or what a registry was told.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from hamlet_core.api import ImportKey

MAX_NAME = 253
MAX_LABEL = 63
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def host_name_fault(name: str) -> str | None:
    """Say why `name`, in either case, is no host name of RFC 1123 (section 2.1), or None when it is one.

    A name whose last label is a number is refused as an address, or what some resolvers take for one
    (`127.1`, `0x7f000001`).
    """
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} characters, {MAX_NAME} are allowed"
    labels = name.lower().split(".")
    for label in labels:
        if not label:
            return "it has an empty label (two dots, or a dot at an end)"
        if len(label) > MAX_LABEL:
            return f"a label has {len(label)} characters, {MAX_LABEL} are allowed"
        if not name.isascii() or not _LABEL.fullmatch(label):  # some letters are ASCII only in lower case
            return "labels are letters, digits and hyphens, with no hyphen at an end"
    if _NUMBER.fullmatch(labels[-1]):
        return "it ends in a number and reads as an IP address"
    return None


def alias(fqdn: str, peer: str) -> str:
    """The name of a service whose own is taken: `<first label>-<peer>.<rest>`, lower-case.

    A first label that gets longer than 63 characters is cut, and ends in a short hash of the whole, so
    that two long names stay apart. The result may be too long as a whole (`host_name_fault` says so).
    """
    first, dot, rest = fqdn.lower().partition(".")
    label = f"{first}-{peer}"
    if len(label) > MAX_LABEL:
        digest = hashlib.blake2b(f"{fqdn.lower()}/{peer}".encode(), digest_size=4).hexdigest()
        label = f"{label[: MAX_LABEL - 9]}-{digest}"
    return f"{label}{dot}{rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The local name that an import gets, and the import that has to find another because of it.

    An empty `local_name` means that there is none; `refusal` is then the reason.
    """

    local_name: str = ""
    displaced: ImportKey | None = None
    refusal: str = ""


class NameTable:
    """Which import has which local name, in one registry.

    The rule for two imports that claim one FQDN: the one that stands in the registry under the plain name
    keeps it; with none standing, the peer that comes first in the configuration gets it. The others get
    the alias (see `alias`); when that is taken too, the import is refused. Of two services of the same peer
    with one FQDN the second is refused. An alias that was given stays when the holder of the plain name
    goes: stable names beat tidy ones. It ends with its own service.

    An import *occupies* a name from the moment its entry is being written until the entry is known to be
    gone; it is *assigned* a name as long as it is wanted. `stays` tells whether the entry of a key is to
    stay in the registry; `rank` gives a peer's place in the configuration.
    """

    def __init__(self, stays: Callable[[ImportKey], bool], rank: Callable[[str], int]) -> None:
        self._stays = stays
        self._rank = rank
        self._assigned: dict[str, ImportKey] = {}
        self._name_of: dict[ImportKey, str] = {}
        self._occupied: dict[str, ImportKey] = {}
        self._place_of: dict[ImportKey, str] = {}
        self._waiting: dict[str, dict[ImportKey, None]] = {}
        self._awaited: dict[ImportKey, tuple[str, ...]] = {}
        self._released: set[str] = set()
        self.local: frozenset[str] = frozenset()
        """Names of our own services, lower-case: never given to an import. Set by `set_local`."""

    def set_local(self, names: frozenset[str]) -> tuple[ImportKey, ...]:
        """Take the lower-case names of our own services; return the imports under a name that came or went."""
        changed = names ^ self.local
        self._released |= self.local - names
        self.local = names
        keys = [
            key for name in sorted(changed) for key in (self._assigned.get(name), self._occupied.get(name)) if key
        ]
        return tuple(dict.fromkeys(keys))

    def holder(self, name: str) -> ImportKey | None:
        """The import that has `name`, by assignment or because its entry stays under it."""
        assigned = self._assigned.get(name)
        if assigned is not None:
            return assigned
        occupant = self._occupied.get(name)
        return occupant if occupant is not None and self._stays(occupant) else None

    def occupant(self, name: str) -> ImportKey | None:
        """The import whose entry stands (or is being written) under `name`, even if it is about to go."""
        return self._occupied.get(name)

    def assign(self, key: ImportKey, fqdn: str) -> Assignment:
        """Give `key` its local name by the rule of this class. `fqdn` is valid and no local service's."""
        plain, other = fqdn.lower(), alias(fqdn, key.peer)
        place = self._place_of.get(key)
        for mine in (place if place and self._occupied.get(place) == key else None, self._name_of.get(key)):
            if mine in (plain, other) and mine not in self.local:
                return self._give(key, mine)
        self.release(key)
        for name in (plain, other):
            holder = self.holder(name)
            if holder is not None and holder != key and holder.peer == key.peer:
                refusal = (
                    f"the name {name} is already taken by {holder.name!r} of the same peer: one of the two"
                    " needs an FQDN of its own, which the owner has to give it"
                )
                return Assignment(refusal=refusal)
        first = self.holder(plain)
        if first is None or (self._occupied.get(plain) != first and self._rank(key.peer) < self._rank(first.peer)):
            return self._give(key, plain)
        fault = host_name_fault(other)
        second = self.holder(other)
        if fault is None and other not in self.local and second is None:
            return self._give(key, other)
        if fault is not None:
            why = f"cannot be used ({fault})"
        elif second is None or other in self.local:
            why = "is the name of a local service"
        else:
            why = f"is taken by the peer {second.peer}"
        refusal = (
            f"the name {plain} is taken by the peer {first.peer}, and the alias {other} {why}: take it from one"
            f" peer only, by narrowing peers.{first.peer}.accept or peers.{key.peer}.accept"
        )
        return Assignment(refusal=refusal)

    def _give(self, key: ImportKey, name: str) -> Assignment:
        if self._name_of.get(key) not in (None, name):
            self.release(key)
        before = self._assigned.get(name)
        displaced = before if before is not None and before != key else None
        if displaced is not None:
            del self._name_of[displaced]
        self._assigned[name] = key
        self._name_of[key] = name
        return Assignment(local_name=name, displaced=displaced)

    def release(self, key: ImportKey) -> None:
        """`key` is no longer wanted, and waits for no name: its own is free, once its entry is gone."""
        for awaited in self._awaited.pop(key, ()):
            waiting = self._waiting.get(awaited, {})
            waiting.pop(key, None)
            if not waiting:
                self._waiting.pop(awaited, None)
        name = self._name_of.pop(key, None)
        if name is not None:
            del self._assigned[name]
            self._released.add(name)

    def leave(self, key: ImportKey) -> None:
        """The entry of `key` stays no longer: the name it stands under can be given to another."""
        place = self._place_of.get(key)
        if place is not None:
            self._released.add(place)

    def occupy(self, name: str, key: ImportKey) -> None:
        """The entry of `key` is being written, or stands, under `name`."""
        self.vacate(key)
        self._occupied[name] = key
        self._place_of[key] = name

    def vacate(self, key: ImportKey) -> None:
        """The entry of `key` is gone from the registry."""
        name = self._place_of.pop(key, None)
        if name is not None and self._occupied.get(name) == key:
            del self._occupied[name]
            self._released.add(name)

    def wait(self, key: ImportKey, *names: str) -> None:
        """Remember that `key`, which has no name, should be judged anew when one of `names` gets free."""
        self._awaited[key] = names
        for name in names:
            self._waiting.setdefault(name, {})[key] = None

    def freed(self) -> tuple[ImportKey, ...]:
        """The imports that wait for a name which is free by now; they are forgotten here, to be tried again."""
        names, self._released = self._released, set()
        free = [
            name
            for name in sorted(names & self._waiting.keys())
            if name not in self.local and self.holder(name) is None
        ]
        return tuple(dict.fromkeys(key for name in free for key in self._waiting.pop(name)))
