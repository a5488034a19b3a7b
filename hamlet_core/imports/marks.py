"""The marks of lost peers: what the registry says, and what it should be told. One per peer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hamlet_core.imports.offers import MARK_GRACE, Offers


class Marks:
    """Since when each peer is lost, as far as the registry says so, and when it was last to be told."""

    def __init__(self) -> None:
        self._stands: dict[str, datetime] = {}
        self._asked: dict[str, datetime] = {}

    def stands(self, peer: str) -> datetime | None:
        """Since when the registry says that `peer` is lost."""
        return self._stands.get(peer)

    def listed(self, marks: dict[str, datetime]) -> None:
        """Take what the registry says of all peers."""
        self._stands = dict(marks)

    def told(self, peer: str, lost_since: datetime | None) -> None:
        """The registry now says this of `peer`."""
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
            if wanted == stands:
                self._asked.pop(offers.peer, None)
            elif asked is None or now >= asked + MARK_GRACE:
                self._asked[offers.peer] = now
                due.append((offers.peer, wanted))
        return due

    def next_due(self, offers: Offers, now: datetime) -> datetime | None:
        """When `due` may have something about this peer although nothing happens."""
        stands, asked, since = self._stands.get(offers.peer), self._asked.get(offers.peer), offers.lost_since
        if offers.wanted_mark(now, stands) != stands:
            return now if asked is None else asked + MARK_GRACE
        if offers.settings is None or since is None or since == stands or offers.live or not offers.standing:
            return None
        return since + MARK_GRACE
