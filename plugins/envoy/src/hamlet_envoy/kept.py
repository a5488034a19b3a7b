"""What was made before, for as long as what it was made of is the same: one more service costs that service.

It does not decide what anything is made of; who asks names all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """Things by key, each beside its source: everything that it was made of, compared as a whole."""

    def __init__(self) -> None:
        self._before: dict[Hashable, tuple[object, Made]] = {}
        self._now: dict[Hashable, tuple[object, Made]] = {}

    def turn(self) -> None:
        """Begin anew: what is not asked for until the next turn is forgotten by then."""
        self._before, self._now = self._now, {}

    def of(self, key: Hashable, source: object, make: Callable[[], Made]) -> Made:
        """What was made for `key` of an equal `source`, or else what `make` makes."""
        found = self._before.get(key)
        if found is None or found[0] != source:
            found = (source, make())
        self._now[key] = found
        return found[1]
