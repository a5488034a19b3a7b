"""What every check of a registry adapter stands on: the backend, the agents on it, and the names of things."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hamlet_core.api import ImportedService, LocalService
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.names import Names
from hamlet_core.api.testing.rules import named, rules_of
from hamlet_core.api.testing.samples import imported_service, local_service


class RegistryStage:
    """The fixtures and settings of the checks; a subclass overrides `backend`, and a setting where it must."""

    deadline = 20.0
    """Seconds after which a change that has not been seen is taken for lost (R1), and an outage for missed (R3)."""
    stop_deadline = 1.0
    """Seconds a watch has to end, and what it leaves behind to be gone: those of R4. A check fails that found it late
    three times in a row, as a busy machine may be once."""
    names = Names()
    """Who the agents are and how things are called."""

    @pytest.fixture
    def backend(self) -> RegistryBackend:
        """Return an empty backend; the subclass knows which."""
        message = f"{type(self).__name__} must override the fixture `backend`"
        raise NotImplementedError(message)

    @pytest.fixture
    def agents(self, backend: RegistryBackend, tmp_path: Path) -> Iterator[Agents]:
        """Open adapters on the backend."""
        agents = Agents(backend, tmp_path, self.names)
        yield agents
        agents.stop_all()

    @pytest.fixture(autouse=True)
    def _rule(self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
        """Put the rule into the report (junit XML) of a check of ours; a plugin's own tests need none."""
        number, _ = named(request.node.name) if re.match(r"test_r\d", request.node.name) else ("", "")
        if number in rules_of():
            record_property("rule", f"{number}. {rules_of()[number].text}")

    def local(self, name: str, address: str = "10.0.0.5") -> LocalService:
        """A service of this mesh."""
        return local_service(self.names.local(name), address)

    def imported(
        self,
        name: str,
        peer: str = "",
        *,
        local_name: str = "",
        address: str = "203.0.113.7",
        description: str = "",
        tags: tuple[str, ...] = ("v1",),
        labels: dict[str, str] | None = None,
    ) -> ImportedService:
        """A service of `Names.peer`, or of another peer. A `local_name` is completed to be that peer's alone."""
        peer = peer or self.names.peer
        return imported_service(
            name,
            peer,
            address=address,
            local_name=f"{local_name}.{peer}.example" if local_name else "",
            description=description,
            tags=tags,
            labels=labels,
        )
