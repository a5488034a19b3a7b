"""The entry point: says that this distribution provides the adapter of kind `consul`."""

from __future__ import annotations

from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_core.api import AdapterType, hookimpl


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the adapter."""
    return [
        AdapterType(
            kind="consul",
            role="registry",
            options=ConsulOptions,
            open=ConsulRegistry,
            summary="a Consul datacenter",
        )
    ]
