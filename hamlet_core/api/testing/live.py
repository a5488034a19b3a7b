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

from hamlet_core.api.testing.left_out import IN_USE
from hamlet_core.api.testing.live_role import LiveRole, attempt
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
    """What became of all checks, in the order of the rules, and what of theirs could not be taken out again."""

    checks: tuple[Check, ...]
    left_behind: tuple[str, ...] = ()

    def count(self, result: Result) -> int:
        """How many checks ended so."""
        return sum(check.result is result for check in self.checks)


def verify(
    role: LiveRole, *, told: Callable[[Check], object] = lambda _: None, seconds: float = 300.0
) -> Verification:
    """Run every check against what `role` stands for, and close it; `told` hears of each check as it ends.

    A check that does not end within `seconds` has failed (a call that hangs is only ended on the main thread).
    Leftovers of a run that was killed are removed first. It takes minutes on a slow backend, and must not be run
    twice at the same time on one backend.
    """
    live = Live(role=role, told=told, seconds=seconds)
    closed: list[str] = []
    try:
        live.tidy(thoroughly=True)
        with _within(seconds):
            role.prepare()
        _run(live)
        live.tidy(thoroughly=True)
    finally:
        with _within(seconds):
            closed += attempt("what the backend holds", role.close)
    checks = sorted(live.checks.values(), key=lambda check: (check.rule[0], int(check.rule[1:])))
    return Verification(checks=tuple(checks), left_behind=(*live.left, *closed))


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
        with _within(self._seconds):
            self.left = list(dict.fromkeys(self.role.tidy(thoroughly=thoroughly)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Let no check take for ever."""
        with _within(self._seconds):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Leave nothing of a check to the next one."""
        try:
            with _within(self._seconds):
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
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _skipped(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` out of whatever is under way after so long, a blocking call included."""
    if threading.current_thread() is not threading.main_thread():  # the others get no signals
        yield
        return

    def late(*_: object) -> None:
        message = f"it had not ended after {seconds:g} s"
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _plain_environment() -> Iterator[None]:
    """Let no options of pytest's from the environment in."""
    given = {name: os.environ.pop(name) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(given)
