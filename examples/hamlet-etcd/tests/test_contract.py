"""The adapter keeps the contract of a registry: the rules that the docstrings of its hooks number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hamlet_core.api.testing import RegistryBackend, RegistryContract

from hamlet_etcd.options import EtcdOptions
from tests.backend import EtcdBackend
from tests.server import Server


class TestContract(RegistryContract):
    @pytest.fixture
    def backend(self, options: EtcdOptions, server: Server) -> Iterator[RegistryBackend]:
        """An empty prefix for each test, in a real etcd."""
        backend = EtcdBackend(options, server)
        yield backend
        backend.close()
