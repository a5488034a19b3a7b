"""A real Envoy keeps the contract of a gateway, every check of it, whichever way it leads calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hamlet_core.api.testing import EgressContract, GatewayBackend, GatewayContract, IngressContract
from plugins.envoy.tests.envoy_backend import EnvoyBackend
from tests.backends.envoy import short_folder


class _Contract:
    without = ""

    @pytest.fixture
    def backend(self) -> Iterator[GatewayBackend]:
        with short_folder() as folder:
            backend = EnvoyBackend(folder, self.without)
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
