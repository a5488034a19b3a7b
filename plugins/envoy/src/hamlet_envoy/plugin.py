"""The entry point: says that this distribution provides the gateway of kind `envoy`."""

from __future__ import annotations

from hamlet_core.api import AdapterType, hookimpl
from hamlet_envoy.gateway import EnvoyGateway
from hamlet_envoy.options import EnvoyOptions


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the gateway."""
    return [
        AdapterType(
            kind="envoy",
            role="gateway",
            options=EnvoyOptions,
            open=EnvoyGateway,
            api_version=1,
            summary="an Envoy, by files it watches",
            backend="hamlet_envoy.verification:gateway",
        )
    ]
