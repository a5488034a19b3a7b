"""The suite that `hamlet_core.api.testing.live` hands to pytest; it is of no use without it."""

from __future__ import annotations

import pytest

from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.contract import RegistryContract
from hamlet_core.api.testing.live import NAMES, Live


class TestLive(RegistryContract):
    """The contract, on a registry that may be in use."""

    names = NAMES

    @pytest.fixture
    def backend(self, live: Live) -> RegistryBackend:
        """Return the live one."""
        return live.backend

    @pytest.fixture
    def agents(self, live_agents: Agents) -> Agents:
        """Return agents that tidy up."""
        return live_agents
