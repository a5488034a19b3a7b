"""Calls out: for each way of calling an imported service a listener, and mTLS to its owner. It decides only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from hamlet_core.api import ImportKey, ImportRoute, Instance, Refused
from hamlet_envoy import trust, xds
from hamlet_envoy.trust import Believed
from hamlet_envoy.upstream import cluster, unusable
from hamlet_envoy.xds import Json

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,253}")
_SAN = re.compile(r"[!-~]{1,2048}")
_ISTIO = "outbound_."
_ALPN = {"HTTP": "http/1.1", "HTTP2": "h2", "GRPC": "h2"}


@lru_cache(maxsize=65536)
def way_name(key: ImportKey, instance: str) -> str:
    """The name of one way of calling a service among Envoy's resources, and of its port in the allocation.

    What an owner says is taken into it as it is where it is plain: Envoy's complaints are searched for such names.
    """
    parts = (key.peer, key.name, instance)
    if all(_PLAIN.fullmatch(part) for part in parts):
        return "egress/" + "/".join(parts)
    return f"egress/~{xds.short(*parts)}"


def refusal(route: ImportRoute, believed: Believed) -> Refused | None:
    """Why the egress will never take this route as it is, or None."""
    service = route.service
    if route.peer not in believed.peers:
        return Refused(f"there is no bundle of {route.peer}, against which to check its ingress: give the peer one")
    if not service.sans:
        return Refused(
            "its owner names no SANs, so nobody could tell its ingress from another's: the owner has to publish the"
            " names that its ingress presents"
        )
    if odd := [san for san in service.sans if not _SAN.fullmatch(san)]:
        return Refused(
            f"{odd[0]!r:.100} among its SANs is no name: the owner has to publish what its ingress presents"
        )
    if not service.instances:
        return Refused("its owner names no way of calling it (instances)")
    if wrong := unusable(service.endpoints):
        return Refused(f"its endpoints cannot be used: {wrong}: the owner has to publish others")
    for instance in service.instances:
        if not _NAME.fullmatch(server_name(route, instance)) or len(server_name(route, instance)) > 253:
            return Refused(
                f"the server name {server_name(route, instance)!r} of its instance {instance.id!r} is no domain name:"
                " the owner has to publish another SNI"
            )
    return None


def server_name(route: ImportRoute, instance: Instance) -> str:
    """What is sent as SNI: what the owner says, or the service's FQDN."""
    return instance.sni or route.service.fqdn


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """All that the egress needs for a route but its ports, or why it does not take it.

    `secret` is the name of the secret by which the owner is judged, `clusters` are texts by the names of the ways.
    """

    refused: Refused | None = None
    secret: str = ""
    clusters: Mapping[str, str] = field(default_factory=dict)


def offer(route: ImportRoute, believed: Believed, directory: Path) -> Offer:
    """What a route comes to."""
    if (refused := refusal(route, believed)) is not None:
        return Offer(refused=refused)
    clusters = {
        way_name(route.key, instance.id): xds.text(_cluster(route, instance, believed, directory))
        for instance in route.service.instances
    }
    return Offer(secret=trust.owner_name(route.peer, believed), clusters=clusters)


def listener(name: str, secret: str, bind: str, port: int) -> str:
    """Where workloads of this mesh connect to. Its chain bears the secret's name: see `trust` on epochs."""
    return xds.text(
        xds.typed(
            "envoy.config.listener.v3.Listener",
            name=name,
            address=xds.bound(bind, port),
            enable_reuse_port=False,
            socket_options=xds.keepalive_options(),
            filter_chains=[{"name": secret, "filters": [xds.tcp_proxy("egress", name, after_handshake=False)]}],
        )
    )


def _cluster(route: ImportRoute, instance: Instance, believed: Believed, directory: Path) -> Json:
    """The owner's endpoints, over mTLS with our identity, its bundle alone and its SANs, each in full."""
    sni = server_name(route, instance).rstrip(".")
    protocols = _alpn(instance.protocol, sni)
    return cluster(
        way_name(route.key, instance.id),
        route.service.endpoints_of(instance),
        xds.transport(
            "Upstream",
            sni=sni,
            max_session_keys=0,
            common_tls_context={
                "tls_params": xds.tls_versions(),
                **({"alpn_protocols": [protocols]} if protocols else {}),
                "tls_certificate_sds_secret_configs": [xds.secret_source(trust.OWN, directory)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [
                            {"san_type": "URI" if "://" in san else "DNS", "matcher": {"exact": san}}
                            for san in sorted(set(route.service.sans))
                        ]
                    },
                    "validation_context_sds_secret_config": xds.secret_source(
                        trust.owner_name(route.peer, believed), directory
                    ),
                },
            },
        ),
    )


def _alpn(protocol: str, sni: str) -> str:
    """The one protocol that is offered. An `AUTO_PASSTHROUGH` owner matches nothing but Istio's own words."""
    plain = _ALPN.get(protocol.upper(), "")
    if sni.startswith(_ISTIO):
        return f"istio-{plain}" if plain else "istio"
    return plain
