"""A real Envoy keeps the contract of a gateway, every check of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hamlet_core.api.testing import GatewayBackend, GatewayContract
from plugins.envoy.tests.envoy_backend import EnvoyBackend
from tests.backends.envoy import short_folder


class TestEnvoyContract(GatewayContract):
    @pytest.fixture
    def backend(self) -> Iterator[GatewayBackend]:
        with short_folder() as folder:
            backend = EnvoyBackend(folder)
            yield backend
            backend.close()
