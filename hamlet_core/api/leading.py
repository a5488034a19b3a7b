"""Leading for as long as a claim in a backend is renewed in time: the clock of `coordinator_lead`.

The claims are made on a thread of their own, so that one that hangs does not keep the deadline from being kept.
It knows no backend.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from hamlet_core.api.errors import CoordinatorUnavailable
from hamlet_core.api.hookspecs import Stop

RENEW_WITHIN = 2 / 3
"""The share of the time-to-live after which a claim that was not renewed counts as lost. What is left of it is for
stopping before another agent may lead; the share is that of Kubernetes' own leader election."""
CLAIMS = 7.5
"""Claims within one time-to-live, as in Kubernetes' leader election."""
LAST_CLAIM = 0.3
"""Seconds that the claim under way gets to end when all is over; later ones are left to their own deadline."""


def lead_by_renewing(
    stop: Stop,
    claim: Callable[[], bool],
    release: Callable[[], object],
    *,
    ttl: float,
    cut: Callable[[], object] | None = None,
) -> Iterator[bool]:
    """Yield whether this agent leads, as `coordinator_lead` does, where claims are forgotten after `ttl` seconds.

    `claim` takes the lead or renews it and says whether it is ours; the backend's `ttl` must not begin before
    the call does. It raises `CoordinatorUnavailable` when it cannot know, which a leader bears for two thirds of
    `ttl`. `cut` is called before the end, to break off a claim that hangs; `release`, which gives the lead up,
    after it and within half a second, where the lead is or may be ours.
    """
    said: queue.SimpleQueue[tuple[float, bool | BaseException] | None] = queue.SimpleQueue()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                said.put((began, claim()))
            except BaseException as error:  # noqa: BLE001 - raised where the answers are read
                said.put((began, error))
            over.wait(ttl / CLAIMS)

    thread = threading.Thread(target=ask, name="hamlet-claims", daemon=True)
    stop.on_stop(lambda: said.put(None))
    thread.start()
    try:
        yield from _judged(said, stop, ttl * RENEW_WITHIN)
    finally:
        over.set()
        if cut is not None:
            cut()
        thread.join(LAST_CLAIM)
        with suppress(CoordinatorUnavailable):  # the time-to-live gives it up then
            release()


def _judged(
    said: queue.SimpleQueue[tuple[float, bool | BaseException] | None], stop: Stop, lasting: float
) -> Iterator[bool]:
    """What the answers mean: a claim lasts for `lasting` seconds from when it was begun."""
    leads: bool | None = None
    until = 0.0
    cause: BaseException | None = None
    while not stop.is_set():
        try:
            answer = said.get(timeout=max(0.0, until - time.monotonic()) if leads else None)
        except queue.Empty:
            yield False  # first: what follows may take a moment
            message = f"the lead was not renewed for {lasting:g} s"
            raise CoordinatorUnavailable(message if cause is None else f"{message}: {cause}") from cause
        if answer is None:
            return
        began, found = answer
        if isinstance(found, BaseException):
            if not (leads and isinstance(found, CoordinatorUnavailable)):
                if leads:
                    yield False
                raise found
            cause = found
        elif found and (now := began + lasting) > time.monotonic():
            until, cause = now, None
            if not leads:
                leads = True
                yield True
        elif not found and leads is not False:
            leads = False
            yield False
