"""What a rule gives a second is given a second: on a busy machine again, and not more of it."""

from __future__ import annotations

from collections.abc import Callable

TRIES = 3


class Late(AssertionError):
    """Something was not over in time; a busy machine may have kept it waiting."""


def in_time(attempt: Callable[[], None]) -> None:
    """Call `attempt` until it is not `Late`, `TRIES` times at most; whatever else it raises, the check has found.

    An adapter that takes too long does so each time, and something else on the machine does not.
    """
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except Late:
            continue
    return attempt()
