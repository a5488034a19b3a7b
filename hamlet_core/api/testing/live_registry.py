"""A registry that may be in use, under the checks: what they make in it is taken out again.

What only somebody else's hands could do (an outage, an edit) needs a `RegistryBackend`; without one those checks
are not run, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from hamlet_core.api import AdapterContext, AdapterError, ImportedService, LocalService, RemoveImport, Status
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.live_role import LiveRole, Open, attempt, missing, put
from hamlet_core.api.testing.names import LIVE_NAMES

AGENTS = (
    (LIVE_NAMES.trust_domain, LIVE_NAMES.registry),
    (LIVE_NAMES.other_trust_domain, LIVE_NAMES.registry),
    (LIVE_NAMES.trust_domain, LIVE_NAMES.other_registry),
)
"""The agents that the checks pretend to be: trust domain and registry."""


class LiveRegistryBackend(RegistryBackend):
    """A live registry: `opens` makes its adapter as configured, or `hands` do, which act on its backend."""

    def __init__(self, opens: Open, hands: RegistryBackend | None) -> None:
        self._opens = opens
        self._hands = hands
        self._local: dict[str, LocalService] = {}
        self._foreign: dict[str, ImportedService] = {}

    def open(self, context: AdapterContext) -> object:
        """Open the adapter; hands may have put something between it and its backend."""
        return self._opens(context) if self._hands is None else self._hands.open(context)

    def add_local(self, service: LocalService) -> str:
        """Register a service; it is taken out after the check."""
        hands = self._hands or missing("registers a service")
        return put(self._local, service.name, service, hands.add_local)

    def reported(self, service: LocalService) -> LocalService:
        """What of it the registry can hold."""
        return (self._hands or missing("registers a service")).reported(service)

    def remove_local(self, name: str) -> None:
        """Deregister one."""
        (self._hands or missing("deregisters a service")).remove_local(name)
        self._local.pop(name, None)

    def add_foreign(self, service: ImportedService) -> str:
        """Put an entry of others there; it is taken out after the check."""
        hands = self._hands or missing("makes an entry of others")
        return put(self._foreign, service.local_name, service, hands.add_foreign)

    def edit_import(self, service: ImportedService) -> None:
        """Edit an import."""
        (self._hands or missing("edits an import")).edit_import(service)

    def entries(self) -> Mapping[str, object]:
        """List everything that stands."""
        return (self._hands or missing("lists everything that stands")).entries()

    def outage(self) -> AbstractContextManager[None]:
        """Make it unreachable."""
        return (self._hands or missing("makes an outage")).outage()

    def deny(self) -> AbstractContextManager[None] | None:
        """Take the adapter's rights from it, where the hands can."""
        return (self._hands or missing("takes rights away")).deny()

    def silence(self) -> AbstractContextManager[None] | None:
        """Let it answer nothing, where the hands can."""
        return (self._hands or missing("lets it fall silent")).silence()

    def tidy(self, *, thoroughly: bool = False) -> Iterator[str]:
        """Take out what the hands made; yield what could not be, which is tried again the next time."""
        if self._hands is None:
            return
        if thoroughly:
            yield from attempt("what was put there as by others", self._hands.sweep)
        for name in sorted(self._local):
            left = list(attempt(f"local service {name}", self._hands.remove_local, name))
            yield from left
            if not left:
                del self._local[name]
        for name, service in sorted(self._foreign.items()):
            left = list(attempt(f"entry of others {name}", self._hands.remove_foreign, service))
            yield from left
            if not left:
                del self._foreign[name]

    def close(self) -> None:
        """Release what the hands hold."""
        if self._hands is not None:
            self._hands.close()


class LiveRegistry(LiveRole):
    """A registry, opened in `directory`, the folder of the configuration."""

    suite = "TestRegistry"

    def __init__(self, opens: Open, directory: Path, hands: RegistryBackend | None = None) -> None:
        self.backend = LiveRegistryBackend(opens, hands)
        self.directory = directory
        self.started: set[tuple[str, str]] = set()
        """The agents that the checks have started, by trust domain and registry: their imports are taken out."""

    def reach(self) -> None:
        """See `LiveRole`."""
        agents = Agents(self.backend, self.directory, LIVE_NAMES)
        try:
            agents.start().registry_imports()
        finally:
            agents.stop_all()

    def tidy(self, *, thoroughly: bool = False) -> Iterator[str]:
        """See `LiveRole`."""
        for trust_domain, registry in sorted({*AGENTS} if thoroughly else self.started):
            what = f"imports of {trust_domain} in {registry}"
            yield from attempt(what, self._withdraw, trust_domain, registry)
        self.started.clear()
        yield from self.backend.tidy(thoroughly=thoroughly)

    def close(self) -> None:
        """See `LiveRole`."""
        self.backend.close()

    def _withdraw(self, trust_domain: str, registry: str) -> None:
        agents = Agents(self.backend, self.directory, LIVE_NAMES)
        try:
            try:
                agent = agents.start(trust_domain=trust_domain, registry=registry)
            except pytest.skip.Exception:  # nobody can open one here, so none has written anything
                return
            standing = list(agent.registry_imports())
            if standing:
                outcomes = agent.registry_apply(
                    changes=[RemoveImport(each.key, each.local_name) for each in standing]
                )
                reasons = [each.reason for each in outcomes if each.status is not Status.APPLIED]
                if left := [each.local_name for each in agent.registry_imports()]:
                    message = f"it still lists {', '.join(left[:5])}{' and more' if left[5:] else ''}"
                    raise AdapterError("; ".join([message, *reasons[:5]]))
            for peer in (LIVE_NAMES.peer, LIVE_NAMES.other_peer):
                agent.registry_mark_peer(peer=peer, lost_since=None)
        finally:
            agents.stop_all()
