"""A real Consul, and the adapter on it, for as long as a measurement takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry

from hamlet_core.api import AdapterContext
from tests.backends.consul import Consul
from tests.backends.install import ensure


@contextmanager
def opened(consul: Consul) -> Iterator[ConsulRegistry]:
    """The adapter on this Consul, as an agent of mesh `west` opens it."""
    options = ConsulOptions(address=consul.address)
    context = AdapterContext(
        name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=consul.folder
    )
    registry = ConsulRegistry(options, context)
    try:
        yield registry
    finally:
        registry.registry_close()


@contextmanager
def real_consul(datacenter: str, *, durable: bool = False) -> Iterator[Consul]:
    """A Consul of its own, found or fetched as the tests do it: in memory (`-dev`), or `durable`, on disk."""
    consul = Consul(ensure("consul"), datacenter=datacenter, durable=durable)
    try:
        consul.start()
        yield consul
    finally:
        consul.close()
