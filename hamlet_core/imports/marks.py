"""The marks of lost peers: what the registry says, and what it should be told. One per peer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hamlet_core.api import StandingImport
from hamlet_core.imports.offers import MARK_GRACE, Offers


class Marks:
    """Since when each peer is lost, as far as the registry says so, and when it was last to be told."""

    def __init__(self) -> None:
        self._stands: dict[str, datetime] = {}
        self._known: set[str] = set()
        self._asked: dict[str, datetime] = {}

    def stands(self, peer: str) -> datetime | None:
        """Since when the registry says that `peer` is lost."""
        return self._stands.get(peer)

    def listed(self, standing: Iterable[StandingImport]) -> None:
        """Take what a listing of the registry says: of peers without entries it says nothing."""
        self._stands = {}
        self._known = set()
        for entry in standing:
            self._known.add(entry.key.peer)
            if entry.lost_since is not None:
                self._stands[entry.key.peer] = entry.lost_since

    def told(self, peer: str, lost_since: datetime | None) -> None:
        """The registry now says this of `peer`."""
        self._known.add(peer)
        self._asked.pop(peer, None)
        if lost_since is None:
            self._stands.pop(peer, None)
        else:
            self._stands[peer] = lost_since

    def due(self, peers: Iterable[Offers], now: datetime) -> list[tuple[str, datetime | None]]:
        """What to tell the registry; what was not told is returned again after a while."""
        due = []
        for offers in peers:
            stands, asked = self._stands.get(offers.peer), self._asked.get(offers.peer)
            wanted = offers.wanted_mark(now, stands)
            if wanted == stands and not self._in_doubt(offers):
                self._asked.pop(offers.peer, None)
            elif asked is None or now >= asked + MARK_GRACE:
                self._asked[offers.peer] = now
                due.append((offers.peer, wanted))
        return due

    def next_due(self, offers: Offers, now: datetime) -> datetime | None:
        """When `due` may have something about this peer although nothing happens."""
        stands, asked, since = self._stands.get(offers.peer), self._asked.get(offers.peer), offers.lost_since
        if offers.wanted_mark(now, stands) != stands or self._in_doubt(offers):
            return now if asked is None else asked + MARK_GRACE
        if offers.settings is None or since is None or since == stands or offers.live or not offers.standing:
            return None
        return since + MARK_GRACE

    def _in_doubt(self, offers: Offers) -> bool:
        """Whether an old mark may be left of a peer that is back.

        It would speak for the entries the peer has now, and end their retention at once after a restart.
        """
        return offers.complete and bool(offers.standing) and offers.peer not in self._known
