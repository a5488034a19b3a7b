"""What is told of changes that a registry has not acknowledged: what stands, and since when they are tried."""

from __future__ import annotations

import pytest

from hamlet_core.api import Outcome, Status
from hamlet_core.imports.status import Retried


def row(it, name):
    (found,) = (each for each in it.reconciler.rows() if each.key.name == name)
    return found


@pytest.fixture
def denied(bench):
    """Three services stood; the registry took neither a fourth nor the removal of one."""
    it = bench(east={})
    it.sync("a", "b", "c")
    it.later(minutes=1)
    it.offer("d")
    it.withdraw("c")
    assert sorted(it.answer(Status.RETRY, "permission denied")) == ["+d", "-c"]
    return it


def test_what_was_not_written_does_not_stand_and_what_was_not_removed_does(denied):
    assert (denied.status().standing, denied.status().pending) == (3, 2)
    assert row(denied, "d").local_name == ""
    assert row(denied, "c").local_name == "c"


def test_a_listing_and_an_outcome_end_the_doubt(denied):
    denied.adopt()
    assert denied.status().standing == 3, "it was not written"
    denied.later(minutes=5)
    denied.answer(Status.RETRY)
    denied.later(minutes=5)
    assert sorted(denied.work()) == ["+d", "-c"]
    assert (denied.status().standing, denied.status().pending) == (3, 0)
    assert row(denied, "d").local_name == "d"


def test_a_write_that_landed_without_a_word_stands_once_it_is_listed(bench):
    it = bench(east={})
    it.sync("a")
    it.offer("d")
    (change,) = it.reconciler.plan(it.now)
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.RETRY, reason="timed out")], it.now)
    assert it.status().standing == 1
    it.adopt()
    assert (it.status().standing, it.status().pending) == (2, 0)
    assert it.status().retried == {}


def test_an_entry_that_could_not_be_changed_stands_as_it_is(bench):
    it = bench(east={})
    it.sync("a")
    it.offer("a", "changed")
    it.answer(Status.RETRY)
    assert (it.status().standing, it.status().pending) == (1, 1)


def test_what_was_never_acknowledged_and_is_withdrawn_does_not_stand(bench):
    it = bench(east={})
    it.sync("a")
    it.offer("d")
    it.answer(Status.RETRY)
    it.withdraw("d")
    assert it.answer(Status.RETRY) == ["-d"], "it may have landed"
    assert it.status().standing == 1
    it.later(minutes=5)
    assert it.work() == ["-d"]
    assert (it.status().standing, it.status().pending) == (1, 0)


def test_since_when_a_change_is_tried_in_vain_is_known_with_the_last_reason(denied):
    began = denied.now
    late = Retried(since=began, reason="the registry main could not take it yet: permission denied")
    assert denied.status().retried == {"c": late, "d": late}
    denied.later(minutes=5)
    denied.answer(Status.RETRY, "still denied")
    late = Retried(since=began, reason="the registry main could not take it yet: still denied")
    assert denied.status().retried == {"c": late, "d": late}


def test_a_service_that_changes_meanwhile_is_late_since_the_first_attempt(denied):
    began = denied.now
    denied.later(minutes=5)
    denied.offer("d", "changed")
    assert denied.status().retried["d"].since == began, "nothing of it was taken"
    denied.answer(Status.RETRY)
    assert denied.status().retried["d"].since == began


@pytest.mark.parametrize("end", ["applied", "rejected", "wanted no more", "as it stands"])
def test_what_is_settled_is_late_no_more_and_late_anew_from_the_next_failure_on(bench, end):
    it = bench(east={})
    it.sync("a")
    it.offer("a", "changed")
    it.answer(Status.RETRY)
    it.later(minutes=5)
    if end == "applied":
        it.work()
    elif end == "rejected":
        it.answer(Status.REJECTED)
    elif end == "wanted no more":
        it.withdraw("a")
        it.work()
    else:
        it.adopt()
        it.offer("a")
        it.work()
    assert it.status().retried == {}
    it.later(minutes=5)
    it.offer("a", "changed again")
    it.answer(Status.RETRY)
    assert it.status().retried["a"].since == it.now


def test_what_is_on_its_way_for_the_first_time_is_not_late(bench):
    it = bench(east={})
    it.sync()
    it.offer("a")
    assert (it.status().pending, it.status().retried) == (1, {})
    it.reconciler.plan(it.now)
    assert (it.status().pending, it.status().retried) == (1, {})
