"""The suites that `hamlet_core.api.testing.live` hands to pytest; they are of no use without it.

Agents are made here, where the checks are imported as pytest has rewritten them, and not by the roles.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.candidates import Candidates
from hamlet_core.api.testing.contract import RegistryContract
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend
from hamlet_core.api.testing.coordinator_contract import CoordinatorContract
from hamlet_core.api.testing.gateway_backend import GatewayBackend
from hamlet_core.api.testing.gateway_contract import EgressContract, GatewayContract, IngressContract
from hamlet_core.api.testing.gateway_stage import GatewayAgents, GatewayStage
from hamlet_core.api.testing.live_coordinator import LiveCoordinator
from hamlet_core.api.testing.live_gateway import LiveGateway
from hamlet_core.api.testing.live_registry import LiveRegistry
from hamlet_core.api.testing.names import LIVE_NAMES


class TestRegistry(RegistryContract):
    """The contract of a registry, on one that may be in use."""

    names = LIVE_NAMES

    @pytest.fixture
    def backend(self, live: LiveRegistry) -> RegistryBackend:
        """Return the live one."""
        return live.backend

    @pytest.fixture
    def agents(self, live: LiveRegistry) -> Iterator[Agents]:
        """Open adapters in the configuration's folder."""
        agents = Agents(live.backend, live.directory, LIVE_NAMES)
        agents.started = live.started
        yield agents
        agents.stop_all()


class TestCoordinator(CoordinatorContract):
    """The contract of a coordinator, on one that may be in use."""

    names = LIVE_NAMES

    @pytest.fixture
    def backend(self, live: LiveCoordinator) -> CoordinatorBackend:
        """Return the live one."""
        return live.backend

    @pytest.fixture
    def candidates(self, live: LiveCoordinator) -> Iterator[Candidates]:
        """Open adapters in the configuration's folder."""
        candidates = Candidates(live.backend, live.directory, LIVE_NAMES)
        yield candidates
        candidates.end_all()


class LiveGatewayStage(GatewayStage):
    """A gateway that is there."""

    names = LIVE_NAMES
    stranger = f"{LIVE_NAMES.own}-south"

    @pytest.fixture
    def backend(self, live: LiveGateway) -> GatewayBackend:
        """Return the live one."""
        return live.backend

    @pytest.fixture
    def agents(self, live: LiveGateway) -> Iterator[GatewayAgents]:
        """Open adapters in the configuration's folder."""
        agents = GatewayAgents(live.backend, live.directory, LIVE_NAMES, key=live.key)
        yield agents
        agents.stop_all()


class TestGateway(LiveGatewayStage, GatewayContract):
    """The contract of a gateway that leads calls in and out."""


class TestIngress(LiveGatewayStage, IngressContract):
    """The contract of a gateway that leads calls in alone."""


class TestEgress(LiveGatewayStage, EgressContract):
    """The contract of a gateway that leads calls out alone."""
