"""HTTP passed on request by request, so that a service can be told who calls. It decides only.

As little as can be is changed besides: no timeouts, no headers of Envoy's own, no paths made normal.
"""

from __future__ import annotations

from hamlet_core.api import Protocol
from hamlet_envoy import xds
from hamlet_envoy.xds import Json

_VERSIONS = {
    Protocol.HTTP: "http_protocol_options",
    Protocol.HTTP2: "http2_protocol_options",
    Protocol.GRPC: "http2_protocol_options",
}
PROTOCOLS = frozenset(_VERSIONS)
"""Those that can be passed on so."""


def http_filter(cluster: str) -> Json:
    """Pass requests on to `cluster`, each with an `x-forwarded-client-cert` that tells the caller, and no other."""
    return xds.extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="ingress",
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        stream_idle_timeout="0s",
        generate_request_id=False,
        server_header_transformation="PASS_THROUGH",
        skip_xff_append=True,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
                }
            ]
        },
        http_filters=[
            xds.extension(
                "envoy.filters.http.router",
                "envoy.extensions.filters.http.router.v3.Router",
                suppress_envoy_headers=True,
            )
        ],
    )


def upstream_options(protocol: Protocol) -> Json:
    """What makes a cluster speak the service's version of HTTP."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: xds.typed(name, explicit_http_config={_VERSIONS[protocol]: {}})}
