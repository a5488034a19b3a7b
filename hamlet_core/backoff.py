"""How long to wait before trying again. Pure: the caller sleeps."""

from __future__ import annotations

import random

FIRST = 1.0
"""Seconds before the first retry, the least that the Hamlet specification allows for a lost link."""


def delay(attempt: int, cap: float, *, rng: random.Random | None = None) -> float:
    """Seconds before retry number `attempt` (from 0): between `FIRST` and `cap`, doubling, with jitter.

    The jitter takes up to half off, never below `FIRST`, so that peers that lost a mesh together do not
    come back together. The first delay lies between `FIRST` and twice that.
    """
    top = min(cap, FIRST * 2.0 ** min(attempt + 1, 30))
    return max(FIRST, top * (rng or random).uniform(0.5, 1.0))
