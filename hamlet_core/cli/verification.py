"""The report of `hamlet verify-adapter`: for a terminal, as a document for programs, as a page. It runs nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from rich.console import Console

from hamlet_core.api.testing import rules_of
from hamlet_core.api.testing.live import Check, Result, Verification
from hamlet_core.cli.output import styled, table
from hamlet_core.cli.printable import printable

_STYLES = {Result.PASSED: "green", Result.FAILED: "red", Result.NOT_RUN: "yellow"}
_PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h2 { margin: 2rem 0 .2rem; font-size: 1.05rem } table { border-collapse: collapse; width: 100% }
td { padding: .25rem .6rem; border-top: 1px solid #ddd; vertical-align: top } td:first-child { width: 5rem }
pre { overflow-x: auto; background: #f6f6f6; padding: .6rem; font-size: 12px }
.passed { color: #18794e } .failed { color: #c62a2f; font-weight: bold } .not-run { color: #946800 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was verified, with which versions, and when."""

    kind: str
    registry: str
    config: str
    distribution: str
    version: str
    hamlet: str
    at: datetime


def document(subject: Subject, done: Verification) -> dict[str, object]:
    """The report for programs: every rule with its text, its checks, and what became of each."""
    return {
        "subject": subject,
        "passed": done.count(Result.PASSED),
        "failed": done.count(Result.FAILED),
        "not_run": done.count(Result.NOT_RUN),
        "left_behind": list(done.left_behind),
        "rules": [
            {
                "rule": rule,
                "demands": rules_of()[rule].text,
                "hook": rules_of()[rule].hook,
                "result": _worst(checks),
                "checks": [
                    {
                        "check": each.sentence,
                        "result": each.result,
                        "reason": each.reason or None,
                        "detail": each.detail or None,
                    }
                    for each in checks
                ],
            }
            for rule, checks in _by_rule(done)
        ],
    }


def show(console: Console, subject: Subject, done: Verification) -> None:
    """The report for a terminal: each rule and what it demands, then its checks."""
    console.print(_heading(subject))
    for rule, checks in _by_rule(done):
        console.print()
        console.print(styled(f"{rule}  {rules_of()[rule].text}", "bold"))
        rows = [(styled(each.result, _STYLES[each.result]), each.sentence, each.reason or None) for each in checks]
        console.print(table("result", "check", "why", rows=rows))
    console.print()
    for left in done.left_behind:
        console.print(styled(f"left behind: {left}", "red"))
    console.print(_summary(done))
    if done.count(Result.FAILED):
        console.print("The whole of each failure is in the report that --html or --json makes.")


def page(subject: Subject, done: Verification) -> str:
    """The report as one HTML page that needs nothing else."""
    title = f"hamlet verify-adapter {subject.kind}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{_safe(title)}</title>',
            f"<style>{_PAGE_STYLE}</style></head><body>",
            f"<h1>{_safe(title)}</h1>",
            f"<p>{_safe(_heading(subject))}</p>",
            f"<p><strong>{_safe(_summary(done))}</strong></p>",
            *(f'<p class="failed">left behind: {_safe(left)}</p>' for left in done.left_behind),
            *(line for rule, checks in _by_rule(done) for line in _section(rule, checks)),
            "</body></html>",
            "",
        ]
    )


def _section(rule: str, checks: list[Check]) -> Iterator[str]:
    yield f'<h2 class="{_class(_worst(checks))}">{rule}</h2>'
    yield f"<p>{_safe(rules_of()[rule].text)} <code>{rules_of()[rule].hook}</code></p>"
    yield "<table>"
    for each in checks:
        detail = f"<pre>{_safe(each.detail)}</pre>" if each.detail else ""
        yield (
            f'<tr><td class="{_class(each.result)}">{each.result}</td>'
            f"<td>{_safe(each.sentence)}<br><small>{_safe(each.reason)}</small>{detail}</td></tr>"
        )
    yield "</table>"


def _by_rule(done: Verification) -> Iterator[tuple[str, list[Check]]]:
    for rule, checks in groupby(done.checks, key=lambda check: check.rule):
        yield rule, list(checks)


def _worst(checks: list[Check]) -> Result:
    results = {each.result for each in checks}
    return next(each for each in (Result.FAILED, Result.NOT_RUN, Result.PASSED) if each in results)


def _heading(subject: Subject) -> str:
    made = f"{subject.distribution} {subject.version}, hamlet-core {subject.hamlet}"
    return (
        f"registry {subject.registry} ({subject.kind}) of {subject.config}: {made}, {subject.at:%Y-%m-%d %H:%M} UTC"
    )


def _summary(done: Verification) -> str:
    passed, failed, skipped = (done.count(result) for result in (Result.PASSED, Result.FAILED, Result.NOT_RUN))
    total = f"{passed} of {len(done.checks)} checks passed"
    rest = [f"{failed} failed"] * bool(failed) + [f"{skipped} could not be run"] * bool(skipped)
    return ", ".join([total, *rest])


def _class(result: Result) -> str:
    return result.replace(" ", "-")


def _safe(text: str) -> str:
    return html.escape(printable(text))
