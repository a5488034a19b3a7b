"""Say at the end of a test run, in so many words, what was not run for want of a real backend, and why."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.backends.consul import NOT_RUN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skips for want of a backend by their reason; these are gaps, not choices."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NOT_RUN in reason:
            reasons[reason[reason.index(NOT_RUN) + len(NOT_RUN) :].strip()] += 1
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{NOT_RUN} {count} tests: {reason}", red=True, bold=True)
