"""The contract, run against a registry that is there: what `hamlet verify-adapter` does.

The checks use names of their own (`NAMES`), touch nothing else, and take out again what they made. What
only somebody else's hands could do (an outage, an edit) needs a `RegistryBackend`; without one those
checks are not run, and say so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from hamlet_core.api import AdapterContext, AdapterError, ImportedService, LocalService, RemoveImport, Status
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.names import Names
from hamlet_core.api.testing.rules import named

OWN = "hamletverify"
NAMES = Names(
    mesh=OWN,
    domain=f"{OWN}.example",
    trust_domain=f"{OWN}.example",
    registry=OWN,
    other_trust_domain=f"other.{OWN}.example",
    other_registry=f"{OWN}-2",
    peer=f"{OWN}-east",
    other_peer=f"{OWN}-north",
    own=OWN,
)
"""Names that no real mesh has: a mark of theirs is no real agent's, and what they write shows where it is from."""
_SUITE = Path(__file__).with_name("live_suite.py")
_NEEDS = "needs a backend fixture"

Open = Callable[[AdapterContext], object]


class Result(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


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


@dataclass(slots=True, kw_only=True)
class LiveBackend(RegistryBackend):
    """A live registry: `opens` makes its adapter as configured, `hands` (or nobody) act on its backend."""

    opens: Open
    hands: RegistryBackend | None = None
    _local: set[str] = field(default_factory=set)
    _foreign: list[ImportedService] = field(default_factory=list)

    def open(self, context: AdapterContext) -> object:
        """Open the adapter."""
        return self.opens(context)

    def add_local(self, service: LocalService) -> str:
        """Register a service; it is taken out after the check."""
        name = self._hands("registers a service").add_local(service)
        self._local.add(service.name)
        return name

    def remove_local(self, name: str) -> None:
        """Deregister one."""
        self._hands("deregisters a service").remove_local(name)
        self._local.discard(name)

    def add_foreign(self, service: ImportedService) -> str:
        """Put an entry of others there; it is taken out after the check."""
        name = self._hands("makes an entry of others").add_foreign(service)
        self._foreign.append(service)
        return name

    def edit_import(self, service: ImportedService) -> None:
        """Edit an import."""
        self._hands("edits an import").edit_import(service)

    def entries(self) -> Mapping[str, object]:
        """List everything that stands."""
        return self._hands("lists everything that stands").entries()

    def outage(self) -> AbstractContextManager[None]:
        """Make it unreachable."""
        return self._hands("makes an outage").outage()

    def tidy(self) -> Iterator[str]:
        """Take out what the hands made; yield what could not be."""
        if self.hands is None:
            return
        for name in sorted(self._local):
            yield from _attempt(f"local service {name}", self.hands.remove_local, name)
        for service in self._foreign:
            yield from _attempt(f"entry of others {service.local_name}", self.hands.remove_foreign, service)
        self._local.clear()
        self._foreign.clear()

    def _hands(self, does: str) -> RegistryBackend:
        if self.hands is None:
            pytest.skip(f"{_NEEDS} that {does}")
        return self.hands


def verify(
    opens: Open,
    *,
    directory: Path,
    hands: RegistryBackend | None = None,
    told: Callable[[Check], object] = lambda _: None,
    seconds: float = 300.0,
) -> Verification:
    """Run every check against the registry whose adapter `opens` makes; `told` hears of each as it ends.

    `directory` is the folder of the configuration. A check that does not end within `seconds` has failed
    (a call that hangs is only ended on the main thread). Leftovers of a run that was killed are removed
    first. It takes minutes on a slow backend, and must not be run twice at the same time on one backend.
    """
    live = Live(backend=LiveBackend(opens=opens, hands=hands), directory=directory, told=told, seconds=seconds)
    live.tidy(NAMES_OF_AGENTS)
    with tempfile.TemporaryDirectory(prefix="hamlet-verify-") as scratch, _plain_environment():
        # A configuration of its own: no conftest, plugin or setting of the folder we stand in has a say.
        ini = Path(scratch) / "pytest.ini"
        ini.write_text("[pytest]\n", encoding="utf-8")
        options = [
            "--noconftest", "--disable-plugin-autoload", "-p", "no:cacheprovider", "-p", "no:terminal",
            "-c", str(ini), "--rootdir", scratch, "--basetemp", str(Path(scratch) / "tmp"),
            "--import-mode=importlib", str(_SUITE),
        ]  # fmt: skip
        code = pytest.main(options, plugins=[live])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        if code is pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        message = f"the checks could not be run: pytest ended with {code!r}"
        raise RuntimeError(message)
    live.tidy(NAMES_OF_AGENTS)
    checks = sorted(live.checks.values(), key=lambda check: (check.rule[0], int(check.rule[1:])))
    return Verification(checks=tuple(checks), left_behind=tuple(dict.fromkeys(live.others_left + live.imports_left)))


NAMES_OF_AGENTS = (
    (NAMES.trust_domain, NAMES.registry),
    (NAMES.other_trust_domain, NAMES.registry),
    (NAMES.trust_domain, NAMES.other_registry),
)
"""The agents that the checks pretend to be: trust domain and registry."""


class Live:
    """A plugin of pytest: it gives the suite its backend, tidies up, and collects what became of each check."""

    def __init__(
        self, *, backend: LiveBackend, directory: Path, told: Callable[[Check], object], seconds: float
    ) -> None:
        self._seconds = seconds
        self.backend = backend
        self.directory = directory
        self.checks: dict[str, Check] = {}
        self.imports_left: list[str] = []
        self.others_left: list[str] = []
        self._told = told

    @pytest.fixture
    def live(self) -> Live:
        """This very object."""
        return self

    @pytest.fixture
    def live_agents(self) -> Iterator[Agents]:
        """Agents whose imports are gone when the check has ended."""
        agents = Agents(self.backend, self.directory, NAMES)
        yield agents
        try:
            agents.stop_all()
        finally:
            self.tidy(agents.started)

    def tidy(self, agents: Collection[tuple[str, str]]) -> None:
        """Take out what these agents wrote, and what the hands made; note what could not be."""
        self.imports_left = []  # what stands now counts, not what once did
        for trust_domain, registry in sorted(agents):
            what = f"imports of {trust_domain} in {registry}"
            with _within(self._seconds):
                self.imports_left += _attempt(what, self._withdraw, trust_domain, registry)
        with _within(self._seconds):
            self.others_left += self.backend.tidy()

    def _withdraw(self, trust_domain: str, registry: str) -> None:
        agents = Agents(self.backend, self.directory, NAMES)
        try:
            agent = agents.start(trust_domain=trust_domain, registry=registry)
            standing = list(agent.registry_imports())
            if standing:
                outcomes = agent.registry_apply(
                    changes=[RemoveImport(each.key, each.local_name) for each in standing]
                )
                reasons = [each.reason for each in outcomes if each.status is not Status.APPLIED]
                if left := [each.local_name for each in agent.registry_imports()]:
                    message = f"it still lists {', '.join(left[:5])}{' and more' if left[5:] else ''}"
                    raise AdapterError("; ".join([message, *reasons[:5]]))
            for peer in (NAMES.peer, NAMES.other_peer):
                agent.registry_mark_peer(peer=peer, lost_since=None)
        finally:
            agents.stop_all()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Let no check take for ever."""
        with _within(self._seconds):
            return (yield)

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
            check = Check(rule=rule, sentence=sentence, result=Result.NOT_RUN, reason=_skipped(report))
        else:
            check = Check(rule=rule, sentence=sentence, result=Result.PASSED)
        if name not in self.checks or check.result is not Result.PASSED:
            self.checks[name] = check
        if report.when == "teardown":
            self._told(self.checks[name])


def _attempt(what: str, act: Callable[..., object], *arguments: object) -> Iterator[str]:
    """Take something out; yield what is left behind, and why, where that fails."""
    try:
        act(*arguments)
    except Exception as error:  # noqa: BLE001 - tidying goes on, and the report says what it could not
        yield f"{what}: {type(error).__name__}: {error}"


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
