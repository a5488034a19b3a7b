"""Agents as far as a test needs them: adapters opened on one backend, and their hooks called."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pluggy

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    ImportChange,
    ImportedService,
    ImportKey,
    Outcome,
    RegistrySpec,
    RemoveImport,
    StandingImport,
    Status,
    WriteImport,
)
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.names import Names
from hamlet_core.api.testing.watching import Watching

SHOWN = 10
"""How many reasons an assertion gives at most."""


class Agents:
    """Opens adapters as agents do, and closes what a test left open.

    `started` are the trust domain and the registry of every agent there was.
    """

    def __init__(self, backend: RegistryBackend, directory: Path, names: Names | None = None) -> None:
        self.started: set[tuple[str, str]] = set()
        self._backend = backend
        self._directory = directory
        self._names = names or Names()
        self._open: list[pluggy.HookRelay] = []
        self._watching: list[Watching] = []

    def start(self, *, trust_domain: str = "", registry: str = "") -> pluggy.HookRelay:
        """Open an adapter for an agent of this trust domain and registry; its hooks, strictly registered."""
        names = self._names
        context = AdapterContext(
            name=registry or names.registry,
            mesh=names.mesh,
            domain=names.domain,
            trust_domain=trust_domain or names.trust_domain,
            directory=self._directory,
        )
        self.started.add((context.trust_domain, context.name))
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(RegistrySpec)
        manager.register(self._backend.open(context))
        manager.check_pending()
        self._open.append(manager.hook)
        return manager.hook

    def stop(self, agent: pluggy.HookRelay) -> None:
        """Close an adapter."""
        self._open.remove(agent)
        agent.registry_close()

    def restart(self, agent: pluggy.HookRelay) -> pluggy.HookRelay:
        """Close an adapter and open another for the same agent."""
        self.stop(agent)
        return self.start()

    def watch(self, agent: pluggy.HookRelay) -> Watching:
        """Begin a watch; it shows the local services that the checks made, or all where `Names.own` is empty."""
        self._watching.append(Watching(agent, only=self._names.own))
        return self._watching[-1]

    def stop_all(self) -> None:
        """Tidy up: the watches first; what fails keeps nothing else from being closed."""
        with ExitStack() as rest:
            for agent in list(self._open):
                rest.callback(self.stop, agent)
            for watching in self._watching:
                if watching.error is None:
                    rest.callback(watching.end, 30)


def imports_of(agent: pluggy.HookRelay) -> dict[ImportKey, StandingImport]:
    """What `registry_imports` lists, each key once."""
    standing: Sequence[StandingImport] = agent.registry_imports()
    keys = [each.key for each in standing]
    assert len(set(keys)) == len(keys), "registry_imports lists a key twice"
    return {each.key: each for each in standing}


def digests_of(agent: pluggy.HookRelay) -> dict[ImportKey, str]:
    """The digest of every import that stands."""
    return {key: each.digest for key, each in imports_of(agent).items()}


def names_and_digests_of(agent: pluggy.HookRelay) -> dict[ImportKey, tuple[str, str]]:
    """The local name and the digest of every import that stands."""
    return {key: (each.local_name, each.digest) for key, each in imports_of(agent).items()}


def apply(agent: pluggy.HookRelay, *changes: ImportChange) -> list[Outcome]:
    """Apply changes and require that the outcomes are theirs, one by one and in order (R6)."""
    outcomes = list(agent.registry_apply(changes=changes))
    assert [outcome.key for outcome in outcomes] == [change.key for change in changes]
    return outcomes


def write(agent: pluggy.HookRelay, *services: ImportedService) -> None:
    """Write imports that nothing is in the way of."""
    require_applied(apply(agent, *map(WriteImport, services)))


def remove(agent: pluggy.HookRelay, *services: ImportedService) -> None:
    """Take imports out."""
    require_applied(apply(agent, *(RemoveImport(each.key, each.local_name) for each in services)))


def require_applied(outcomes: Sequence[Outcome]) -> None:
    """Require that every change was made; else say of each that was not, on a line of its own, why."""
    reasons = [
        f"{each.key.name} of {each.key.peer}: {each.status.value}: {each.reason or 'no reason is given'}"
        for each in outcomes
        if each.status is not Status.APPLIED
    ]
    told = "\n".join(reasons[:SHOWN])  # the first one in the first line, which is all that a short report has
    assert not reasons, f"{len(reasons)} of {len(outcomes)} changes were not made: {told}"
