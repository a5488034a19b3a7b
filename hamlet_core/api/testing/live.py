"""The contract, run against a backend that is there: what `hamlet verify-adapter` does.

The checks use names of their own (`LIVE_NAMES`), touch nothing else, and take out again what they made. What each
role needs for that is in `live_registry`, `live_gateway` and `live_coordinator`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from hamlet_core.api import CoordinatorUnavailable, GatewayUnavailable, RegistryUnavailable
from hamlet_core.api.testing.left_out import IN_USE
from hamlet_core.api.testing.live_role import LiveRole, attempt, within
from hamlet_core.api.testing.rewritten import explain_assertions
from hamlet_core.api.testing.rules import named

_SUITE = Path(__file__).with_name("live_suite.py")


class Result(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    """There was nobody to do what it needs."""
    DOES_NOT_APPLY = "does not apply"
    """It is about a backend that nobody uses, and this one is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: its rule (R1), what must hold, and what became of it.

    `reason` says in one line why it failed or was not run, `detail` is pytest's full account of a failure.
    """

    rule: str
    sentence: str
    result: Result
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What became of all checks, in the order of the rules, and what of theirs could not be taken out again.

    `remarks` say which checks these are, where the backend decides it.
    """

    checks: tuple[Check, ...]
    remarks: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    def count(self, result: Result) -> int:
        """How many checks ended so."""
        return sum(check.result is result for check in self.checks)


def verify(
    role: LiveRole, *, told: Callable[[Check], object] = lambda _: None, seconds: float = 300.0
) -> Verification:
    """Run every check against what `role` stands for, and close it; `told` hears of each check as it ends.

    A check that does not end within `seconds` has failed (a call that hangs is only ended on the main thread).
    Leftovers of a run that was killed are removed first. What is raised, KeyboardInterrupt at Ctrl-C or SIGTERM
    included, is raised once everything is taken out, with a note for each thing that could not be. It takes minutes
    on a slow backend, and must not be run twice at the same time on one backend.
    """
    live = Live(role=role, told=told, seconds=seconds)
    try:
        with _sigterm_interrupts():
            try:
                live.tidy(thoroughly=True)
                with within(seconds):
                    remarks = tuple(role.prepare())
                _run(live)
            finally:
                live.end()
    except BaseException as error:
        for left in live.left:
            error.add_note(f"left behind: {left}")
        raise
    checks = sorted(live.checks.values(), key=lambda check: (check.rule[0], int(check.rule[1:])))
    return Verification(checks=tuple(checks), remarks=remarks, left_behind=tuple(live.left))


def require_reach(role: LiveRole, *, seconds: float = 300.0) -> None:
    """Raise what says so where the backend of `role` is not there: then the checks say nothing about the adapter.

    It is `RegistryUnavailable`, `GatewayUnavailable` or `CoordinatorUnavailable`. Anything else that an adapter does
    here is for the checks to tell.
    """
    try:
        with within(seconds):
            role.reach()
    except (KeyboardInterrupt, RegistryUnavailable, GatewayUnavailable, CoordinatorUnavailable):
        raise
    except BaseException:  # noqa: BLE001 - see above
        return


def _run(live: Live) -> None:
    with tempfile.TemporaryDirectory(prefix="hamlet-verify-") as scratch, _plain_environment():
        # A configuration of its own: no conftest, plugin or setting of the folder we stand in has a say.
        ini = Path(scratch) / "pytest.ini"
        ini.write_text("[pytest]\n", encoding="utf-8")
        options = [
            "--noconftest", "--disable-plugin-autoload", "-p", "no:cacheprovider", "-p", "no:terminal",
            "-c", str(ini), "--rootdir", scratch, "--basetemp", str(Path(scratch) / "tmp"),
            "--import-mode=importlib", f"{_SUITE}::{live.role.suite}",
        ]  # fmt: skip
        code = pytest.main(options, plugins=[live])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        if code is pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        message = f"the checks could not be run: pytest ended with {code!r}"
        raise RuntimeError(message)


class Live:
    """A plugin of pytest: it gives the suite what it is about, tidies up, and collects what became of each check."""

    def __init__(self, *, role: LiveRole, told: Callable[[Check], object], seconds: float) -> None:
        self.role = role
        self.checks: dict[str, Check] = {}
        self.left: list[str] = []
        """What could not be taken out when that was last tried: what stands now counts, not what once did."""
        self._told = told
        self._seconds = seconds

    @pytest.fixture
    def live(self) -> LiveRole:
        """What is verified."""
        return self.role

    def tidy(self, *, thoroughly: bool = False) -> None:
        """Take out what was made; note what could not be."""
        with within(self._seconds):
            self.left = list(dict.fromkeys(self.role.tidy(thoroughly=thoroughly)))

    def end(self) -> None:
        """Take everything out, and release what the role holds."""
        self.left = ["what the checks have made, or a part of it: taking it out was interrupted"]
        self.tidy(thoroughly=True)
        with within(self._seconds):
            self.left += attempt("what the backend holds", self.role.close)

    def pytest_sessionstart(self) -> None:
        """Import the checks anew: this process had them before pytest could explain their assertions."""
        explain_assertions()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Let no check take for ever."""
        with within(self._seconds):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Leave nothing of a check to the next one."""
        try:
            with within(self._seconds):
                return (yield)
        finally:
            self.tidy()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of setup, call and teardown of each check."""
        name = report.nodeid.rpartition("::")[2]
        rule, sentence = named(name)
        if report.failed:
            reason = _crash(report) if report.when == "call" else f"{report.when}: {_crash(report)}"
            check = Check(
                rule=rule, sentence=sentence, result=Result.FAILED, reason=reason, detail=report.longreprtext
            )
        elif report.skipped:
            reason = _skipped(report)
            result = Result.DOES_NOT_APPLY if reason.startswith(IN_USE) else Result.NOT_RUN
            check = Check(rule=rule, sentence=sentence, result=result, reason=reason)
        else:
            check = Check(rule=rule, sentence=sentence, result=Result.PASSED)
        if name not in self.checks or check.result is not Result.PASSED:
            self.checks[name] = check
        if report.when == "teardown":
            self._told(self.checks[name])


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else report.longreprtext
    reason = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if reason != "AssertionError":
        return reason
    # It stands in a module that pytest does not rewrite, an adapter's for example: the line itself is all there is.
    *_, line = ["", *(each for each in report.longreprtext.splitlines() if each.startswith(">"))]
    return f"{reason}: {line.removeprefix('>').strip()}"


def _skipped(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Have SIGTERM interrupt the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # the others get no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _plain_environment() -> Iterator[None]:
    """Let no options of pytest's from the environment in."""
    given = {name: os.environ.pop(name) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(given)
