"""The entry point: says that this distribution provides the registry and the gateway of kind `consul`."""

from __future__ import annotations

from hamlet_consul import coordinator
from hamlet_consul.gateway import ConsulGateway
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_core.api import AdapterType, hookimpl


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide both."""
    return [
        AdapterType(
            kind="consul",
            role="registry",
            options=ConsulOptions,
            open=ConsulRegistry,
            api_version=1,
            summary="a Consul datacenter",
            backend="hamlet_consul.verification:registry",
        ),
        AdapterType(
            kind="consul",
            role="gateway",
            options=ConsulGatewayOptions,
            open=ConsulGateway,
            api_version=1,
            summary="calls out by a terminating gateway of Consul",
        ),
        coordinator.ADAPTER,
    ]
