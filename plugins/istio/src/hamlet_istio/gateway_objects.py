"""What a gateway of kind `istio` writes: secrets, and for each published server name three objects. Pure.

One Gateway object for each server name: a change costs as much with one service as with two thousand, an object of
etcd holds no two thousand servers, and what is wrong with one leaves the others alone. Istio puts them together on
one listener, by server name.

Who may call is told twice. The secret that a server verifies callers with has the bundles of exactly the meshes that
the service is published to, one secret for each such set: the authority of no other mesh counts there at all. And a
policy denies whoever is of none of their trust domains. It denies instead of allowing, because a policy that allows
would shut everybody else out of an ingress gateway that has other uses.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hamlet_core.api import PeerTrust, Protocol, PublishRoute, Trust
from hamlet_istio.gateway_options import IngressOptions
from hamlet_istio.marks import FQDN, PEER, PREFIX, SERVICE, WRITTEN, Marker, annotations_of, fingerprint
from hamlet_istio.naming import hashed_name, object_name
from hamlet_istio.resources import NETWORKING, SECURITY, Resource

Object = dict[str, Any]
SNI, PEERS, HALF = f"{PREFIX}sni", f"{PREFIX}peers", f"{PREFIX}gateway"
INGRESS, EGRESS = "ingress", "egress"
"""The values of the label `HALF`: which half of the gateway an object is for."""
_BY_REQUEST = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC})


@dataclass(frozen=True, slots=True)
class GatewayApis:
    """The versions of Istio's groups (`v1`) that the cluster serves."""

    networking: str
    security: str

    @property
    def policies(self) -> Resource:
        """AuthorizationPolicies."""
        return Resource(f"{SECURITY}/{self.security}", "AuthorizationPolicy", "authorizationpolicies")

    @property
    def services(self) -> Resource:
        """VirtualServices."""
        return Resource(f"{NETWORKING}/{self.networking}", "VirtualService", "virtualservices")

    @property
    def gateways(self) -> Resource:
        """Gateways."""
        return Resource(f"{NETWORKING}/{self.networking}", "Gateway", "gateways")

    @property
    def entries(self) -> Resource:
        """ServiceEntries."""
        return Resource(f"{NETWORKING}/{self.networking}", "ServiceEntry", "serviceentries")

    @property
    def of_a_route(self) -> tuple[Resource, ...]:
        """The kinds of a published server name, in the order of writing; the last one opens the door."""
        return self.policies, self.services, self.gateways


def audience(route: PublishRoute, trusted: Mapping[str, PeerTrust]) -> tuple[PeerTrust, ...]:
    """The peers of a route that can be told by their trust domain and their bundle, in order."""
    found = (trusted[name] for name in sorted(set(route.peers)) if name in trusted)
    return tuple(peer for peer in found if peer.trust_domain)


def credential_of(peers: Iterable[str], options: IngressOptions, marker: Marker) -> str:
    """The name of the secret for an audience; no two audiences have the same, nor two agents at one gateway."""
    context = marker.context
    return hashed_name(options.credential, f"{context.trust_domain}/{context.name}/{','.join(sorted(peers))}")


def secret(
    name: str, namespace: str, trust: Trust, bundles: Sequence[str], marker: Marker, half: str, **notes: str
) -> Object:
    """Our certificate and key with the bundles to verify the other side by, as Istio reads it (`tls.crt`, ...)."""
    texts = {"tls.crt": trust.certificate, "tls.key": trust.key, "ca.crt": "\n".join(map(str.strip, bundles)) + "\n"}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()},
    }
    return _marked(body, marker, half, {f"{PREFIX}{key}": value for key, value in notes.items()})


def route_objects(
    route: PublishRoute,
    peers: Sequence[PeerTrust],
    host: str,
    options: IngressOptions,
    marker: Marker,
    apis: GatewayApis,
) -> list[Object]:
    """The policy, the way and the door of a server name; `host` is the service in the mesh, `peers` its audience."""
    name = object_name(route.sni)
    selector = dict(options.selector)
    by_request = options.http and is_by_request(route)
    policy = {
        "selector": {"matchLabels": selector},
        "action": "DENY",
        "rules": [
            {
                "from": [{"source": {"notPrincipals": [f"{peer.trust_domain}/*" for peer in peers]}}],
                "when": [{"key": "connection.sni", "values": [route.sni]}],
            }
        ],
    }
    way = {"route": [{"destination": {"host": host, "port": {"number": route.port.port}}}]}
    service = {
        "hosts": [route.sni],
        "gateways": [name],
        "exportTo": ["."],
        ("http" if by_request else "tcp"): [way],
    }
    server = {
        "port": {
            "number": options.port,
            "name": "https-hamlet" if by_request else "tls-hamlet",
            "protocol": "HTTPS" if by_request else "TLS",
        },
        # `./`: no VirtualService of another namespace takes this name over.
        "hosts": [f"./{route.sni}"],
        "tls": {
            "mode": "MUTUAL",
            "credentialName": credential_of((peer.peer for peer in peers), options, marker),
            "minProtocolVersion": "TLSV1_2",
        },
    }
    notes = {SNI: route.sni, FQDN: route.fqdn, SERVICE: route.service, PEERS: ",".join(peer.peer for peer in peers)}
    return [
        _marked(
            {
                "apiVersion": resource.version,
                "kind": resource.kind,
                "metadata": {"name": name, "namespace": options.namespace},
                "spec": spec,
            },
            marker,
            INGRESS,
            notes,
        )
        for resource, spec in zip(
            apis.of_a_route, (policy, service, {"selector": selector, "servers": [server]}), strict=True
        )
    ]


def is_by_request(route: PublishRoute) -> bool:
    """Whether its requests can be routed by their host: the name that callers ask for has to be the server name."""
    return route.port.protocol in _BY_REQUEST and route.sni == route.fqdn


def hosts_of(gateway: Object, port: int) -> frozenset[str]:
    """The names that a Gateway of anybody's serves on a port, without the namespaces before them."""
    return frozenset(
        host.rpartition("/")[2]
        for server in (gateway.get("spec") or {}).get("servers") or ()
        if (server.get("port") or {}).get("number") == port
        for host in server.get("hosts") or ()
    )


def peers_of(live: Object) -> tuple[str, ...]:
    """The peers that a secret of ours is for."""
    return tuple(filter(None, annotations_of(live).get(PEERS, "").split(",")))


def _marked(body: Object, marker: Marker, half: str, notes: Mapping[str, str]) -> Object:
    labels = {key: value for key, value in marker.labels("").items() if key != PEER} | {HALF: half}
    owner = {key: value for key, value in marker.owner("").items() if key != PEER}
    made: Object = {**body, "metadata": {**body["metadata"], "labels": labels, "annotations": {**owner, **notes}}}
    made["metadata"]["annotations"][WRITTEN] = fingerprint(made)
    return made
