"""The report of `hamlet verify-adapter`: for a terminal, as a document for programs, as a page. It runs nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby

from rich.console import Console

from hamlet_core.api import CoordinatorSpec, GatewaySpec, RegistrySpec, Role
from hamlet_core.api.testing import Rule, rules_of
from hamlet_core.api.testing.live import Check, Result, Verification
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.output import styled, table
from hamlet_core.cli.printable import printable
from hamlet_core.cli.subjects import Place

_SPECS: Mapping[Role, type] = {"registry": RegistrySpec, "gateway": GatewaySpec, "coordinator": CoordinatorSpec}
_STYLES = {
    Result.PASSED: "green",
    Result.FAILED: "red",
    Result.NOT_RUN: "yellow",
    Result.DOES_NOT_APPLY: "dim",
}
_PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h2 { margin: 3rem 0 .2rem; font-size: 1.3rem } h3 { margin: 2rem 0 .2rem; font-size: 1.05rem }
table { border-collapse: collapse; width: 100% }
td { padding: .25rem .6rem; border-top: 1px solid #ddd; vertical-align: top } td:first-child { width: 5rem }
pre { overflow-x: auto; background: #f6f6f6; padding: .6rem; font-size: 12px }
.passed { color: #18794e } .failed { color: #c62a2f; font-weight: bold } .not-run { color: #946800 }
.does-not-apply { color: #666 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Which plugin was verified, as what configures it, with which versions, and when."""

    kind: str
    config: str
    distribution: str
    version: str
    hamlet: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One subject: where it is configured, who acted on its backend, and what became of its checks."""

    place: Place
    backend: str
    done: Verification


def ending(sections: Sequence[Section], *, partial: bool) -> Exit:
    """How the command ends: well where every check passed that could be run, and with `partial` only those count."""
    faults = {Result.FAILED} if partial else {Result.FAILED, Result.NOT_RUN}
    left = any(each.done.left_behind for each in sections)
    return Exit.FINDINGS if left or any(each.done.count(fault) for each in sections for fault in faults) else Exit.OK


def document(run: Run, sections: Sequence[Section]) -> dict[str, object]:
    """The report for programs: every subject, its rules with their text, their checks, and what became of each."""
    return {
        **{field.name: getattr(run, field.name) for field in fields(run)},
        **_counts([each.done for each in sections]),
        "subjects": [
            {
                "role": each.place.role,
                "name": each.place.key,
                "backend": each.backend or None,
                "remarks": list(each.done.remarks),
                **_counts([each.done]),
                "left_behind": list(each.done.left_behind),
                "rules": [_rule(each, rule, checks) for rule, checks in _by_rule(each.done)],
            }
            for each in sections
        ],
    }


def _rule(section: Section, rule: str, checks: list[Check]) -> dict[str, object]:
    known = _rules(section)[rule]
    return {
        "rule": rule,
        "demands": known.text,
        "hook": known.hook,
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


def show(console: Console, run: Run, sections: Sequence[Section]) -> None:
    """The report for a terminal: for each subject its rules and what they demand, each with its checks."""
    console.print(_heading(run))
    for section in sections:
        console.print()
        console.print(styled(_title(section), "bold"))
        for remark in section.done.remarks:
            console.print(remark)
        for rule, checks in _by_rule(section.done):
            console.print()
            console.print(styled(f"{rule}  {_rules(section)[rule].text}", "bold"))
            rows = [
                (styled(each.result, _STYLES[each.result]), each.sentence, each.reason or None) for each in checks
            ]
            console.print(table("result", "check", "why", rows=rows))
    console.print()
    for section in sections:
        for left in section.done.left_behind:
            console.print(styled(f"left behind in {section.place}: {left}", "red"))
    for section in sections:
        console.print(f"{section.place}: {_summary(section.done)}")
    if any(section.done.count(Result.FAILED) for section in sections):
        console.print("The whole of each failure is in the report that --html or --json makes.")


def page(run: Run, sections: Sequence[Section]) -> str:
    """The report as one HTML page that needs nothing else."""
    title = f"hamlet verify-adapter {run.kind}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{_safe(title)}</title>',
            f"<style>{_PAGE_STYLE}</style></head><body>",
            f"<h1>{_safe(title)}</h1>",
            f"<p>{_safe(_heading(run))}</p>",
            *(line for section in sections for line in _section(section)),
            "</body></html>",
            "",
        ]
    )


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{_safe(_title(section))}</h2>"
    yield from (f"<p>{_safe(remark)}</p>" for remark in section.done.remarks)
    yield f"<p><strong>{_safe(_summary(section.done))}</strong></p>"
    yield from (f'<p class="failed">left behind: {_safe(left)}</p>' for left in section.done.left_behind)
    for rule, checks in _by_rule(section.done):
        known = _rules(section)[rule]
        yield f'<h3 class="{_class(_worst(checks))}">{rule}</h3>'
        yield f"<p>{_safe(known.text)} <code>{known.hook}</code></p>"
        yield "<table>"
        for each in checks:
            detail = f"<pre>{_safe(each.detail)}</pre>" if each.detail else ""
            yield (
                f'<tr><td class="{_class(each.result)}">{each.result}</td>'
                f"<td>{_safe(each.sentence)}<br><small>{_safe(each.reason)}</small>{detail}</td></tr>"
            )
        yield "</table>"


def _rules(section: Section) -> Mapping[str, Rule]:
    return rules_of(_SPECS[section.place.role])


def _by_rule(done: Verification) -> Iterator[tuple[str, list[Check]]]:
    for rule, checks in groupby(done.checks, key=lambda check: check.rule):
        yield rule, list(checks)


def _worst(checks: list[Check]) -> Result:
    results = {each.result for each in checks}
    order = (Result.FAILED, Result.NOT_RUN, Result.PASSED, Result.DOES_NOT_APPLY)
    return next(each for each in order if each in results)


def _counts(done: Sequence[Verification]) -> dict[str, int]:
    return {result.replace(" ", "_"): sum(each.count(result) for each in done) for result in Result}


def _heading(run: Run) -> str:
    made = f"{run.distribution} {run.version}, hamlet-core {run.hamlet}"
    return f"{run.kind} as {run.config} configures it: {made}, {run.at:%Y-%m-%d %H:%M} UTC"


def _title(section: Section) -> str:
    return f"{section.place}, {f'with {section.backend}' if section.backend else 'with nobody to act on its backend'}"


def _summary(done: Verification) -> str:
    counts = {result: done.count(result) for result in Result}
    words = {
        Result.FAILED: "failed",
        Result.NOT_RUN: "could not be run",
        Result.DOES_NOT_APPLY: "not for a backend in use",
    }
    total = f"{counts[Result.PASSED]} of {len(done.checks)} checks passed"
    return ", ".join([total, *(f"{counts[result]} {words[result]}" for result in words if counts[result])])


def _class(result: Result) -> str:
    return result.replace(" ", "-")


def _safe(text: str) -> str:
    return html.escape(printable(text))
