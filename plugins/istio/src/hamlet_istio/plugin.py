"""The entry point: says that this distribution provides the adapters of kind `istio`."""

from __future__ import annotations

from hamlet_core.api import AdapterType, hookimpl
from hamlet_istio import coordinator
from hamlet_istio.gateway import IstioGateway
from hamlet_istio.gateway_options import IstioGatewayOptions
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the registry and the gateway."""
    return [
        AdapterType(
            kind="istio",
            role="registry",
            options=IstioOptions,
            open=IstioRegistry,
            api_version=1,
            summary="a Kubernetes cluster, with Istio or without",
            backend="hamlet_istio.verification:registry",
        ),
        AdapterType(
            kind="istio",
            role="gateway",
            options=IstioGatewayOptions,
            open=IstioGateway,
            api_version=1,
            summary="the ingress gateway of an Istio mesh, and its sidecars",
        ),
        coordinator.ADAPTER,
    ]
