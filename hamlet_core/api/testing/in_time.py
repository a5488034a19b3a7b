"""What a rule gives a second is given a second: on a busy machine again, and not more of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIES = 3
_BEAT = 0.02


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


@contextmanager
def unless_it_stood_still(seconds: float) -> Iterator[None]:
    """Raise `Late` for whatever else is raised, where this process has stood still for `seconds` meanwhile.

    A machine that is that busy keeps an agent from renewing its lead, and from saying in time that it has lost it.
    """
    over = threading.Event()
    longest = 0.0

    def beat() -> None:
        nonlocal longest
        seen, ended = time.monotonic(), False
        while not ended:
            ended = over.wait(_BEAT)
            now = time.monotonic()
            longest, seen = max(longest, now - seen), now

    pulse = threading.Thread(target=beat, name="contract-pulse", daemon=True)
    pulse.start()
    try:
        yield
    except Late:
        raise
    except Exception as error:
        over.set()
        pulse.join()  # it has the last word: this thread may be the first to go on
        if longest < seconds:
            raise
        message = f"everything stood still for {longest:.1f} s, and then: {error}"
        raise Late(message) from error
    finally:
        over.set()
        pulse.join()
