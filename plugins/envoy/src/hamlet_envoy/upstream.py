"""Clusters: the endpoints that connections go to, balanced, and left out while they are dead. It decides only."""

from __future__ import annotations

from collections.abc import Sequence

from hamlet_core.api import Endpoint
from hamlet_envoy import xds
from hamlet_envoy.options import is_ip, parse_host
from hamlet_envoy.xds import Json

_UNLIMITED = ("max_connections", "max_pending_requests", "max_requests")
_MANY = 1_000_000
"""Envoy's own limit is 1,024 connections to a service, beyond which it refuses; limits are the service's affair."""


def unusable(endpoints: Sequence[Endpoint]) -> str:
    """What is wrong with the first endpoint that nobody could connect to; empty when all are well.

    They come from elsewhere, and Envoy repeats them when it complains: what is checked here cannot be mistaken there
    for the name of another service.
    """
    for endpoint in endpoints:
        try:
            parse_host(endpoint.address)
        except ValueError as error:
            return str(error)
        if not 1 <= endpoint.port <= 65535:
            return f"{endpoint.port} is no port from 1 to 65535"
    return "" if endpoints else "it has no endpoints"


def cluster(name: str, endpoints: Sequence[Endpoint], transport_socket: Json | None = None) -> Json:
    """A cluster of `endpoints`, called round robin; one that is a name is looked up, each of its addresses counts.

    Of several, one that two connections in a row did not reach is left out for ten seconds, then longer. When
    none is left all are tried: a guess beats a certain failure.
    """
    named = not all(is_ip(endpoint.address) for endpoint in endpoints)
    found: Json = xds.typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        connect_timeout="5s",
        circuit_breakers={"thresholds": [dict.fromkeys(_UNLIMITED, _MANY)]},
        load_assignment={
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": xds.address(endpoint.address, endpoint.port)}}
                        for endpoint in endpoints
                    ]
                }
            ],
        },
        upstream_connection_options={
            "tcp_keepalive": {
                "keepalive_time": xds.IDLE,
                "keepalive_interval": xds.INTERVAL,
                "keepalive_probes": xds.PROBES,
            }
        },
    )
    if named:
        # a name server that is slow must not hold up the services that are fine
        found |= {
            "type": "STRICT_DNS",
            "dns_lookup_family": "ALL",
            "respect_dns_ttl": True,
            "wait_for_warm_on_init": False,
        }
    if named or len(endpoints) > 1:
        found["outlier_detection"] = {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "interval": "1s",
            "base_ejection_time": "10s",
            "max_ejection_percent": 100,
        }
        found["common_lb_config"] = {"healthy_panic_threshold": {"value": 1}}
    if transport_socket is not None:
        found["transport_socket"] = transport_socket
    return found
