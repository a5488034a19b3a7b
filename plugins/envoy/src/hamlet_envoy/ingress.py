"""Calls in: one listener with a filter chain for each published port, chosen by the server name. It decides only.

A chain of its own costs a service some 75 kB of Envoy's memory and has what a shared one cannot: who is not in its
audience is refused in the handshake, and its connections, no others, end when it goes or its audience changes.
The map from names to chains is not part of a chain, so that a new service disturbs no connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hamlet_core.api import Protocol, PublishRoute, Refused
from hamlet_envoy import requests, trust, xds
from hamlet_envoy.options import IngressOptions, parse_address
from hamlet_envoy.trust import Believed
from hamlet_envoy.upstream import cluster, unusable
from hamlet_envoy.xds import Json

LISTENER = "ingress"
HANDSHAKE = "10s"
"""How long a caller may take for its handshake: anybody can begin one, and it holds memory."""
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_SNI = xds.extension("sni", "envoy.extensions.matching.common_inputs.network.v3.ServerNameInput")
_ALPN: Mapping[Protocol, tuple[str, ...]] = {
    Protocol.HTTP: ("http/1.1", "istio-http/1.1"),
    Protocol.HTTP2: ("h2", "istio-h2"),
    Protocol.GRPC: ("h2", "istio-h2"),
}
_ANY_ALPN = ("istio",)
"""Istio's own words for the same, which its sidecars and `AUTO_PASSTHROUGH` use, are taken too."""


def route_name(sni: str) -> str:
    """The name of a published route among Envoy's resources."""
    return f"ingress/{sni}"


def refusal(route: PublishRoute, believed: Believed) -> Refused | None:
    """Why the ingress will never take this route as it is, or None."""
    if not _NAME.fullmatch(route.sni) or len(route.sni) > 253:
        return Refused(f"the server name {route.sni!r} is no lower-case domain name: publish it under another name")
    if wrong := unusable(route.endpoints):
        return Refused(f"its endpoints cannot be used: {wrong}: mend the service in its registry")
    if not trust.audience(route.peers, believed):
        peers = ", ".join(sorted(route.peers)) or "nobody"
        return Refused(
            f"it is published to {peers}, of whom none has a SPIFFE trust domain and a bundle, by which the ingress"
            " tells who calls: give one of these peers a trust domain, or publish without this gateway"
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """All that the ingress needs for a route, as texts, or why it does not take it.

    `audience` are the peers who may call, `secret` is the name of the secret by which they are judged.
    """

    route: PublishRoute
    refused: Refused | None = None
    audience: tuple[str, ...] = ()
    secret: str = ""
    cluster: str = ""
    chain: str = ""


def offer(route: PublishRoute, believed: Believed, options: IngressOptions, directory: Path, own: str) -> Offer:
    """What a route comes to; `own` is the secret that the ingress presents."""
    if (refused := refusal(route, believed)) is not None:
        return Offer(route=route, refused=refused)
    audience = trust.audience(route.peers, believed)
    secret = trust.audience_name(audience, believed)
    return Offer(
        route=route,
        audience=audience,
        secret=secret,
        cluster=xds.text(_cluster(route, options)),
        chain=xds.text(_chain(route, secret, directory, own, options)),
    )


def listener(offers: Sequence[Offer], options: IngressOptions) -> str:
    """The listener for `offers`, none of which is refused, as a text."""
    listen = parse_address(options.listen)
    ordered = sorted(offers, key=lambda each: each.route.sni)
    shell = xds.typed(
        "envoy.config.listener.v3.Listener",
        name=LISTENER,
        address=xds.bound(listen.host, listen.port),
        # two Envoys on one port would share its connections without a word
        enable_reuse_port=False,
        socket_options=xds.keepalive_options(),
        per_connection_buffer_limit_bytes=xds.BUFFER,
        listener_filters=[
            xds.extension(
                "envoy.filters.listener.tls_inspector",
                "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            )
        ],
        filter_chain_matcher=_matcher([each.route for each in ordered]),
    )
    chains = ",".join(each.chain for each in ordered) or xds.text(_nobody())
    return xds.text(shell, filter_chains=f"[{chains}]")


def _cluster(route: PublishRoute, options: IngressOptions) -> Json:
    found = cluster(route_name(route.sni), route.endpoints)
    if options.caller_header and route.port.protocol in requests.PROTOCOLS:
        found["typed_extension_protocol_options"] = requests.upstream_options(route.port.protocol)
    return found


def _chain(route: PublishRoute, audience: str, directory: Path, own: str, options: IngressOptions) -> Json:
    name = route_name(route.sni)
    return {
        "name": name,
        "transport_socket_connect_timeout": HANDSHAKE,
        "transport_socket": xds.transport(
            "Downstream",
            require_client_certificate=True,
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
            common_tls_context={
                "tls_params": xds.tls_versions(),
                "alpn_protocols": list(_ALPN.get(route.port.protocol, _ANY_ALPN)),
                "tls_certificate_sds_secret_configs": [xds.secret_source(own, directory)],
                "validation_context_sds_secret_config": xds.secret_source(audience, directory),
            },
        ),
        "filters": [
            requests.http_filter(name)
            if options.caller_header and route.port.protocol in requests.PROTOCOLS
            else xds.tcp_proxy("ingress", name, after_handshake=True)
        ],
    }


def _nobody() -> Json:
    # A listener needs a chain; no name leads to this one.
    return {"name": "nobody", "filters": [xds.tcp_proxy("ingress", "nobody", after_handshake=False)]}


def _matcher(routes: list[PublishRoute]) -> Json:
    """By the route's own name, else by `outbound_.<port>_.<subset>_.<fqdn>` with any subset."""
    matcher: Json = {
        "matcher_tree": {
            "input": _SNI,
            "exact_match_map": {
                "map": {
                    "nobody.invalid": _leads_to("nobody"),
                    **{route.sni: _leads_to(route_name(route.sni)) for route in routes},
                }
            },
        }
    }
    ways = {(route.port.port, route.fqdn.lower()): route for route in reversed(routes)}
    by_port: dict[str, list[Json]] = {}
    for (port, fqdn), route in sorted(ways.items()):
        by_port.setdefault(f"outbound_.{port}_.", []).append(
            {
                "predicate": {"single_predicate": {"input": _SNI, "value_match": {"suffix": f"_.{fqdn}"}}},
                "on_match": _leads_to(route_name(route.sni)),
            }
        )
    if by_port:
        forms = {prefix: {"matcher": {"matcher_list": {"matchers": each}}} for prefix, each in by_port.items()}
        matcher["on_no_match"] = {"matcher": {"matcher_tree": {"input": _SNI, "prefix_match_map": {"map": forms}}}}
    return matcher


def _leads_to(chain: str) -> Json:
    return {"action": xds.extension("chain", "google.protobuf.StringValue", value=chain)}
