"""A lead lasts as long as its claim is renewed in time, whatever becomes of the calls."""

import threading
import time

import pytest

from hamlet_core.api import AdapterError, CoordinatorUnavailable, Stop, lead_by_renewing, leading

TTL = 1.5
LONG = 60.0
"""Seconds: the time-to-live of a lead that nothing but an answer ends, however busy the machine is."""
OURS, THEIRS = True, False
"""What a claim may be answered."""


class Backend:
    """Answers claims with what a test puts there, the last one for ever; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.claims = 0
        self.released = 0
        self.hang = threading.Event()
        self.hang.set()

    def claim(self):
        self.hang.wait(30)
        self.claims += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self):
        self.released += 1

    def lead(self, stop=None, *, ttl=LONG):
        return lead_by_renewing(stop or Stop(), self.claim, self.release, ttl=ttl, cut=self.hang.set)


UNAVAILABLE = CoordinatorUnavailable("the backend is gone")


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Claims follow each other at once, almost."""
    monkeypatch.setattr(leading, "CLAIMS", LONG / 0.01)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((True,), [True]),
        ((False, False, True), [False, True]),
        ((True, True, False), [True, False]),
        ((True, UNAVAILABLE, True, False), [True, False]),
    ],
)
def test_only_changes_are_told(answers, words):
    lead = Backend(*answers).lead()
    assert [next(lead) for _ in words] == words
    lead.close()


def test_a_leader_bears_an_outage_that_is_shorter_than_its_lead_and_says_why_it_ended():
    backend = Backend(OURS, UNAVAILABLE)
    lead = backend.lead(ttl=TTL)
    began = time.monotonic()
    assert next(lead) is True
    assert next(lead) is False
    assert time.monotonic() - began > TTL / 2
    with pytest.raises(CoordinatorUnavailable, match="was not renewed for 1 s: the backend is gone"):
        next(lead)
    assert backend.claims > 2
    assert backend.released == 1


def test_a_claim_that_hangs_does_not_keep_the_lead():
    backend = Backend(OURS)
    lead = backend.lead(ttl=TTL)
    assert next(lead) is True
    backend.hang.clear()
    assert next(lead) is False
    with pytest.raises(CoordinatorUnavailable, match="was not renewed"):
        next(lead)


def test_who_never_led_is_told_of_an_outage_at_once():
    with pytest.raises(CoordinatorUnavailable, match="gone"):
        next(Backend(UNAVAILABLE).lead())


def test_a_fault_ends_the_lead_at_once():
    lead = Backend(OURS, AdapterError("no rights")).lead()
    assert [next(lead), next(lead)] == [True, False]
    with pytest.raises(AdapterError, match="no rights"):
        next(lead)


@pytest.mark.parametrize("answers", [(True,), (False,)])
def test_a_stop_ends_it_and_gives_up_what_may_be_ours(answers):
    backend, stop = Backend(*answers), Stop()
    lead = backend.lead(stop)
    next(lead)
    stop.set()
    assert list(lead) == []
    assert backend.released == 1


def test_a_release_that_fails_is_left_to_the_time_to_live():
    backend, stop = Backend(OURS), Stop()

    def release():
        raise UNAVAILABLE

    lead = lead_by_renewing(stop, backend.claim, release, ttl=LONG)
    assert next(lead)
    stop.set()
    assert list(lead) == []


def test_an_answer_that_came_too_late_is_no_lead():
    """The claim counts from when it was made: an answer after two thirds of its time is worth nothing."""

    class Slow(Backend):
        def claim(self):
            if not self.claims:
                time.sleep(TTL * 0.8)
            return super().claim()

    lead = Slow(OURS, THEIRS).lead(ttl=TTL)
    assert next(lead) is False
    lead.close()
