"""Agents that would lead, as far as a test needs them: each asks its adapter on a thread of its own."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pluggy

from hamlet_core.api import PROJECT, AdapterContext, CoordinatorSpec, CoordinatorUnavailable, Stop
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend
from hamlet_core.api.testing.names import Names


def hooks_of(adapter: object) -> pluggy.HookRelay:
    """The hooks of a coordinator's adapter, as the core calls them."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(CoordinatorSpec)
    manager.register(adapter)
    manager.check_pending()
    return manager.hook


class Candidate:
    """An agent as far as a test needs it: an adapter that is asked on a thread of its own whether it leads."""

    def __init__(self, adapter: object, context: AdapterContext, stop: Stop | None = None) -> None:
        self.adapter, self.context, self.hooks = adapter, context, hooks_of(adapter)
        self.words: list[tuple[float, bool]] = []
        """What it said, and when; that it ended counts as False."""
        self.error: BaseException | None = None
        self._stop = stop or Stop()
        self._closed = False
        self._ask()

    def _ask(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="contract-lead", daemon=True)
        self._thread.start()

    def ask_again(self, seconds: float) -> None:
        """Call its hook again where that raised because of an outage, as the core does with backoff."""
        if isinstance(self.error, CoordinatorUnavailable):
            self._thread.join(seconds)
            self.error = None
            self._ask()

    def _follow(self) -> None:
        try:
            words = self.hooks.coordinator_lead(stop=self._stop)
            assert words is not None, "the adapter has no coordinator_lead that is marked with @hookimpl"
            for leads in words:
                assert isinstance(leads, bool), f"coordinator_lead yielded {leads!r}; True or False is due"
                if not self._stop.is_set():
                    self.words.append((time.monotonic(), leads))
        except BaseException as error:  # noqa: BLE001 - the test that waits for it says what is right
            self.error = error
        self.words.append((time.monotonic(), False))

    def require_no_error(self) -> None:
        """Raise what its hook raised, here where a check sees it."""
        if self.error is not None:
            raise self.error

    @property
    def leads(self) -> bool:
        """Whether it leads, by its last word."""
        return bool(self.words) and self.words[-1][1]

    @property
    def ended(self) -> bool:
        """Whether it has nothing more to say."""
        return not self._thread.is_alive()

    def terms(self) -> list[tuple[float, float]]:
        """From when until when it led; one that goes on ends in the future."""
        ends = [*(moment for moment, _ in self.words[1:]), float("inf")]
        return [(moment, end) for (moment, leads), end in zip(list(self.words), ends, strict=False) if leads]

    def stop(self) -> None:
        """Have it give up; whatever it was doing as the leader is over by now."""
        self.words.append((time.monotonic(), False))
        self._stop.set()

    def end(self, seconds: float) -> bool:
        """Stop it, wait, and close the adapter; whether it ended in time."""
        try:
            self.stop()
        finally:
            self._thread.join(seconds)
            if not self._closed:
                self._closed = True
                self.hooks.coordinator_close()
        return self.ended


class Candidates:
    """Opens adapters as agents do, and closes what a test left open."""

    grace = 2.0
    """Seconds that each has in the end to give its lead up."""

    def __init__(self, backend: CoordinatorBackend, directory: Path, names: Names) -> None:
        self._backend, self._directory, self._names = backend, directory, names
        self.all: list[Candidate] = []

    def context(self, *, mesh: str = "", trust_domain: str = "") -> AdapterContext:
        """What an agent of this mesh is told."""
        return AdapterContext(
            name="coordinator",
            mesh=mesh or self._names.mesh,
            domain=self._names.domain,
            trust_domain=trust_domain or self._names.trust_domain,
            directory=self._directory,
        )

    def start(self, *, mesh: str = "", trust_domain: str = "", stop: Stop | None = None) -> Candidate:
        """Start an agent; one whose `stop` is set ends at once, and its other hooks can be called."""
        context = self.context(mesh=mesh, trust_domain=trust_domain)
        self.all.append(Candidate(self._backend.open(context), context, stop))
        return self.all[-1]

    def end_all(self) -> None:
        """Tidy up; what fails keeps no other from giving its lead up."""
        with ExitStack() as rest:
            while self.all:
                rest.callback(self.all.pop(0).end, self.grace)
