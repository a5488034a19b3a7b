"""The entry point: says that this distribution provides the adapter of kind `istio`."""

from __future__ import annotations

from hamlet_core.api import AdapterType, hookimpl
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the adapter."""
    return [
        AdapterType(
            kind="istio",
            role="registry",
            options=IstioOptions,
            open=IstioRegistry,
            summary="a Kubernetes cluster, with Istio or without",
        )
    ]
