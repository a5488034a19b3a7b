"""A real Envoy keeps the contract of a gateway, every check of it, whichever way it leads calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hamlet_envoy.verification import EnvoyBackend

from hamlet_core.api.testing import EgressContract, GatewayBackend, GatewayContract, IngressContract
from tests.backends.envoy import Mesh
from tests.support.ports import free_range

PORTS = 20
"""More than a check imports."""


class _Contract:
    without = ""

    @pytest.fixture
    def backend(self) -> Iterator[GatewayBackend]:
        options = Mesh.options(1, free_range(PORTS), PORTS, {})
        left_out = {self.without: None} if self.without else {}
        backend = EnvoyBackend(options.model_copy(update=left_out), own="west")
        yield backend
        backend.close()


class TestEnvoyContract(_Contract, GatewayContract):
    """In and out."""


class TestEnvoyEgressContract(_Contract, EgressContract):
    """As where another gateway lets calls in."""

    without = "ingress"


class TestEnvoyIngressContract(_Contract, IngressContract):
    """As where another gateway leads calls out."""

    without = "egress"
