"""What a process holds that an adapter could leave behind: threads and open descriptors (sockets, files, pipes)."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hamlet_core.api.testing.in_time import Late, in_time

_DESCRIPTORS = Path("/dev/fd")
_LOOK = 0.02


def held() -> Counter[str]:
    """How many threads there are, and how many descriptors of each sort, where the system tells."""
    found: Counter[str] = Counter(threads=threading.active_count())
    if _DESCRIPTORS.is_dir():
        for descriptor in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names alone, while they come and go
            try:
                target = os.readlink(_DESCRIPTORS / descriptor)  # noqa: PTH115
            except OSError:
                continue  # it was the one that listed the others, or has been closed since
            found[f"descriptors ({target.partition(':')[0]})" if ":" in target else "descriptors (file)"] += 1
    return found


def require_nothing_left(live: Callable[[], None], times: int, seconds: float, who: str) -> None:
    """Require that `live`, which does something `times` times, leaves nothing behind each time.

    What is gone within `seconds` is not left behind. `who` ends the sentence that says it.
    """

    def attempt() -> None:
        before = held()
        live()
        if left := grown(before, times, seconds):
            message = f"left behind by {who}: {left}"
            raise Late(message)

    in_time(attempt)


def grown(before: Counter[str], times: int, seconds: float) -> dict[str, int]:
    """What has grown by at least `times` since `before` and does not shrink again within `seconds`.

    Something that was done `times` times and left something behind each time is found; what a library
    keeps once, for good, is not taken for a leak.
    """
    until = time.monotonic() + seconds
    while True:
        now = held()
        more = {sort: count - before[sort] for sort, count in now.items() if count - before[sort] >= times}
        if not more or time.monotonic() > until:
            return more
        time.sleep(_LOOK)
