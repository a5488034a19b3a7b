"""The brake: when removals are too many to be believed. It counts; the reconciler holds them back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

HANDFUL = 10
"""So many deletions sent by the owner within the window are never a flood, whatever the share."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A removal that is held back: since when, and why."""

    since: datetime
    reason: str


def exceeds(removals: int, total: int, share: float) -> bool:
    """Whether `removals` of `total` services are more than `share` (0 to 1) of them, however few they are.

    One of two is a half. A share of 1 holds nothing, a share of 0 everything.
    """
    return removals > share * total + _ROUNDING


def floods(removals: int, stood: int, share: float) -> bool:
    """Whether `removals` within the window are a flood: more than a handful, and than `share` of what stood."""
    return removals > HANDFUL and exceeds(removals, stood, share)


class Deletions:
    """The services of one peer that its owner deleted within a sliding window and has not offered since."""

    def __init__(self) -> None:
        self._when: dict[str, datetime] = {}

    def count(self, now: datetime, window: timedelta) -> int:
        """How many there are at `now`; older ones are forgotten."""
        while self._when:
            name, when = next(iter(self._when.items()))
            if when > now - window:
                break
            del self._when[name]
        return len(self._when)

    def note(self, name: str, now: datetime) -> None:
        """`name` was deleted at `now`."""
        self._when.pop(name, None)
        self._when[name] = now

    def returned(self, name: str) -> None:
        """`name` is offered again: it was no loss."""
        self._when.pop(name, None)

    def clear(self) -> None:
        """Forget them all: the operator has confirmed that they may go."""
        self._when.clear()
