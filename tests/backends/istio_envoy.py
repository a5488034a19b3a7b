"""The few words of Envoy's API that the stand-in for istiod needs, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
_TLS = "envoy.extensions.transport_sockets.tls.v3"


def listener(name: str, port: int, chains: Sequence[Json], *, by_name: bool) -> Json:
    inspector = extension(
        "envoy.filters.listener.tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    )
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": [inspector] if by_name else [],
        "filter_chains": chains,
    }


def cluster(name: str, places: Iterable[tuple[str, int]], **more: Any) -> Json:
    """The addresses and ports of a service, as they are."""
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in places
    ]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


def tcp_proxy(cluster: str) -> Json:
    message = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return extension("envoy.filters.network.tcp_proxy", message, stat_prefix="tcp", cluster=cluster)


def by_request(host: str, cluster: str, filters: Iterable[Json]) -> Json:
    """Pass requests for `host` on to a cluster."""
    router = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        route_config={"virtual_hosts": [{"name": host, "domains": [host, f"{host}:*"], "routes": routes}]},
        http_filters=[*filters, router],
    )


def denying(layer: str, policies: Mapping[str, Json]) -> Json:
    """A filter of `layer` (`network` or `http`) that refuses whatever fits one of these policies."""
    return extension(
        f"envoy.filters.{layer}.rbac",
        f"envoy.extensions.filters.{layer}.rbac.v3.RBAC",
        rules={"action": "DENY", "policies": policies},
        **({"stat_prefix": "tcp."} if layer == "network" else {}),
    )


def transport(side: str, **fields: Any) -> Json:
    return extension("envoy.transport_sockets.tls", f"{_TLS}.{side}TlsContext", **fields)


def extension(name: str, message: str, **fields: Any) -> Json:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{message}", **fields}}
