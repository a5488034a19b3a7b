from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hamlet_core import backoff
from hamlet_core.agent.importer import Importer, Lane
from hamlet_core.api import AdapterContext, hookimpl
from hamlet_core.api.testing import MemoryRegistry
from hamlet_core.config.model import Config
from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.plugins.registry_port import RegistryPort


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any delay before a retry."""
    monkeypatch.setattr(backoff, "delay", lambda *_, **__: 0.01)


@pytest.fixture
def config(tmp_path: Any) -> Config:
    return Config.model_validate(
        {
            "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
            "identity": {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"},
            "registries": {"west": {"kind": "memory"}},
            # Nothing here ends as an owner has no more patience.
            "peers": {"east": {"bundle": tmp_path / "east.pem", "trust_domain": "east.example", "ack_timeout": "3h"}},
        }
    )


@pytest.fixture
async def make_port(memory: MemoryRegistry, tmp_path: Any) -> Any:
    """Make ports on the memory, with hooks replaced; all are closed at the end."""
    ports = []

    def make(*, call_timeout: float = 20.0, **hooks: Callable[..., Any]) -> RegistryPort:
        context = AdapterContext(
            name="west", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
        )
        adapter = memory.open(context)
        for name, function in hooks.items():
            function.__name__ = name
            setattr(adapter, name, hookimpl(function))
        ports.append(
            RegistryPort("west", memory.adapter_type(), adapter, call_timeout=call_timeout, stop_timeout=1.0)
        )
        return ports[-1]

    yield make
    for port in ports:
        await port.close()


@pytest.fixture
def importer(config: Config) -> Callable[[RegistryPort], Importer]:
    """An importer of one lane, which knows that there are no local services."""

    def make(port: RegistryPort) -> Importer:
        made = Importer(config, [Lane(port, Reconciler("west", config))])
        made.set_local_names(frozenset())
        return made

    return make
