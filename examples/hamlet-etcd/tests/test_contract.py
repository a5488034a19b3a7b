"""The adapter keeps the contract of a registry: the rules that the docstrings of its hooks number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hamlet_core.api.testing import RegistryBackend, RegistryContract

from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.store import Store
from hamlet_etcd.verification import EtcdBackend
from tests.server import Server


class OwnEtcd(EtcdBackend):
    """A server that the tests have started: it can be killed, and ask who we are."""

    def __init__(self, options: EtcdOptions, server: Server) -> None:
        super().__init__(options)
        self._server = server

    def outage(self) -> AbstractContextManager[None]:
        return self._server.outage()

    @contextmanager
    def deny(self) -> Iterator[None]:
        with self._server.asking() as root:  # the adapter is not root
            ours, self._store = self._store, Store(root)
            try:
                yield
            finally:
                self._store.close()
                self._store = ours


class TestContract(RegistryContract):
    @pytest.fixture
    def backend(self, options: EtcdOptions, server: Server) -> Iterator[RegistryBackend]:
        """An empty prefix for each test, in a real etcd."""
        backend = OwnEtcd(options, server)
        yield backend
        backend.close()
