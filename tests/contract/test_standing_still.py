"""What fails because this process stood still is tried again; what fails otherwise is found."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamlet_core.api import Stop
from hamlet_core.api.testing import CoordinatorContract, MemoryCoordinator
from hamlet_core.api.testing.candidates import Candidates
from hamlet_core.api.testing.in_time import Late, unless_it_stood_still
from hamlet_core.api.testing.memory_coordinator import MemoryCoordinatorAdapter

TTL = 1.0
_C = ctypes.PyDLL(None)


def stand_still(seconds: float) -> None:
    """Keep every thread of this process from going on, as a machine does that has other things to do."""
    _C.usleep(int(seconds * 1_000_000))  # a PyDLL does not let go of the interpreter meanwhile


class StandsStill(MemoryCoordinator):
    """A coordinator without a fault, in a process that stands still once, for a `share` of the time-to-live."""

    share = 1.0

    def __init__(self) -> None:
        super().__init__(TTL)
        self.stood = False

    def stand_still(self) -> None:
        if not self.stood:
            self.stood = True
            stand_still(self.share * TTL)


class WhileItRenews(StandsStill):
    def claim(self, adapter: MemoryCoordinatorAdapter) -> bool:
        held = self.claims.get(adapter.key)
        if held is not None and held.holder is adapter:
            self.stand_still()
        return super().claim(adapter)


class WhileItGivesUp(StandsStill):
    """Not for so long that the other one takes the lead as one that was lost."""

    share = 0.8

    def release(self, adapter: MemoryCoordinatorAdapter) -> None:
        self.stand_still()
        super().release(adapter)


class WhileItStops(StandsStill):
    """Who was cut off knows that it does not lead, and the other one goes on first."""

    def __init__(self) -> None:
        super().__init__()
        self.another = threading.Event()

    def lead(self, adapter: MemoryCoordinatorAdapter, stop: Stop) -> Iterator[bool]:
        for leads in super().lead(adapter, stop):
            if not leads and adapter in self.out_of_reach and not self.stood:
                self.stand_still()
                self.another.wait(20)
            yield leads
            if leads and self.out_of_reach:
                self.another.set()


@pytest.mark.parametrize(
    ("check", "busy"),
    [
        (CoordinatorContract.test_c1_a_leader_that_renews_leads_on_and_nobody_else, WhileItRenews),
        (CoordinatorContract.test_c2_a_leader_that_cannot_renew_stops_before_another_leads, WhileItStops),
        (CoordinatorContract.test_c3_a_leader_that_is_stopped_is_followed_at_once, WhileItGivesUp),
    ],
)
def test_a_coordinator_is_not_found_guilty_of_what_the_machine_does(check, busy, tmp_path: Path) -> None:
    backend, suite = busy(), CoordinatorContract()
    candidates = Candidates(backend, tmp_path, suite.names)
    try:
        check(suite, backend, candidates)
    finally:
        candidates.end_all()
    assert backend.stood


def lose(*, after: float) -> None:
    stand_still(after)
    raise KeyError("lost")


def test_it_is_late_that_fails_after_the_process_stood_still() -> None:
    with pytest.raises(Late, match=r"stood still for \d+\.\d s, and then: 'lost'"), unless_it_stood_still(0.3):
        lose(after=0.4)


def test_what_fails_otherwise_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError, match="lost"), unless_it_stood_still(3600):
        lose(after=0.1)


def test_what_passes_passes_however_long_it_stood_still() -> None:
    with unless_it_stood_still(0.05):
        stand_still(0.2)
    assert "contract-pulse" not in {thread.name for thread in threading.enumerate()}
