"""How often registries are asked what is wrong with them, and what is told of it."""

from __future__ import annotations

import asyncio

import pytest

from hamlet_core.agent import checks as module
from hamlet_core.agent.checks import Checks
from hamlet_core.api import Finding, Severity
from tests.support.sessions import until


class Port:
    """Answers with `errors` errors and something that is well, when `answers` is set."""

    def __init__(self):
        self.errors = 0
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def check(self):
        self.asked += 1
        await self.answers.wait()
        bad = [Finding(subject="x", severity=Severity.ERROR, message="bad")] * self.errors
        return [Finding(subject="x", severity=Severity.OK, message="well"), *bad]


@pytest.fixture
def clock(monkeypatch):
    """The time, in seconds, as `Checks` sees it; it stands still."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


async def test_errors_are_told_and_asked_for_again_when_they_are_old(clock):
    port = Port()
    checks = Checks({"main": port})
    assert checks.found("main") is None
    port.errors = 2
    await checks.refresh()
    assert len(checks.found("main").errors) == 2
    port.errors = 0
    await checks.refresh()
    assert (port.asked, len(checks.found("main").errors)) == (1, 2)
    clock[0] += module.FRESH
    await checks.refresh()
    assert (port.asked, checks.found("main").errors) == (2, ())


@pytest.mark.parametrize(("took", "counts"), [(0.5, 0.5 * module.SHARE), (4, module.OLDEST), (400, module.OLDEST)])
async def test_a_check_that_takes_long_is_made_seldom_but_not_never(clock, took, counts):
    port = Port()
    checks = Checks({"main": port})
    port.answers.clear()
    asking = asyncio.create_task(checks.refresh())
    await until(lambda: port.asked)
    clock[0] += took
    port.answers.set()
    await asking
    clock[0] += counts - 1
    await checks.refresh()
    assert port.asked == 1
    clock[0] += 1
    await checks.refresh()
    assert port.asked == 2


async def test_one_that_does_not_answer_is_waited_for_once_and_asked_once_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "WITHIN", 0.01)
    slow, quick = Port(), Port()
    slow.answers.clear()
    slow.errors = quick.errors = 1
    checks = Checks({"slow": slow, "quick": quick})
    await checks.refresh()
    await checks.refresh()
    assert (slow.asked, checks.found("slow")) == (1, None)
    assert len(checks.found("quick").errors) == 1
    slow.answers.set()
    await until(lambda: checks.found("slow"))
