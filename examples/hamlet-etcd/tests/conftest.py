"""One etcd for all tests; each has a prefix of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from hamlet_etcd.options import EtcdOptions
from tests.server import Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real etcd."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def options(server: Server) -> EtcdOptions:
    """What hamlet.yaml would say."""
    return EtcdOptions(address=server.address, prefix=f"mesh-{next(_numbers)}/")
