"""What a check says when changes were not made."""

from __future__ import annotations

import pytest

from hamlet_core.api import ImportKey, Outcome, Status
from hamlet_core.api.testing.agents import SHOWN, require_applied

REASON = "the script of the store does not answer: " + "user_script:6. " * 20


def test_each_change_that_was_not_made_has_a_line_with_all_of_its_reason() -> None:
    outcomes = [
        Outcome(key=ImportKey("east", "stock"), status=Status.RETRY, reason=REASON),
        Outcome(key=ImportKey("east", "mail"), status=Status.APPLIED),
        Outcome(key=ImportKey("north", "stock"), status=Status.REJECTED),
    ]
    with pytest.raises(AssertionError) as told:
        require_applied(outcomes)
    assert [line.strip() for line in str(told.value).splitlines()[:2]] == [
        f"2 of 3 changes were not made: stock of east: retry: {REASON}".strip(),
        "stock of north: rejected: no reason is given",
    ]


def test_of_a_thousand_reasons_some_are_told() -> None:
    outcome = Outcome(key=ImportKey("east", "stock"), status=Status.RETRY, reason="it is gone")
    with pytest.raises(AssertionError) as told:
        require_applied([outcome] * 1000)
    assert str(told.value).count("it is gone\n") in (SHOWN - 1, SHOWN)


def test_nothing_is_said_of_what_was_made() -> None:
    require_applied([Outcome(key=ImportKey("east", "stock"), status=Status.APPLIED)])
