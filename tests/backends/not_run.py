"""What is not run for want of a real backend: skipped, and said at the end of the run in so many words.

Where `$HAMLET_REQUIRE_BACKENDS` is set it is a failure: a run that is meant to show everything shows it, or fails.
A check of a contract that is left out for any other reason is a failure anywhere: the adapters of this repository
have no exceptions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.backends.install import CannotInstall, ensure

NOT_RUN = "NOT RUN:"
"""Begins the reason of a test that was left out for want of a real backend."""


def needed(what: str, *names: str) -> tuple[Path, ...]:
    """The binaries `names` of this machine, found or fetched; without them the test is not run."""
    try:
        return tuple(ensure(name) for name in names)
    except CannotInstall as error:
        leave_out(f"{what} is needed and cannot be had: {error}")


def leave_out(reason: str) -> NoReturn:
    """End the test as one that is not run, for `reason`."""
    if os.environ.get("HAMLET_REQUIRE_BACKENDS"):
        pytest.fail(f"{NOT_RUN} {reason}")
    pytest.skip(f"{NOT_RUN} {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no check of the kit be skipped, by `not_run` or otherwise, but for want of a real backend."""
    report = yield
    of_the_kit = getattr(getattr(item, "function", None), "__module__", "").startswith("hamlet_core.api.testing.")
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if of_the_kit and report.skipped and NOT_RUN not in reason:
        report.outcome = "failed"
        report.longrepr = f"a check of a contract is left out: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skips for want of a backend by their reason; these are gaps, not choices."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NOT_RUN in reason:
            reasons[reason[reason.index(NOT_RUN) + len(NOT_RUN) :].strip()] += 1
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{NOT_RUN} {count} tests: {reason}", red=True, bold=True)
