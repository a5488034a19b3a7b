"""The neutral model: what a service is between a registry, the policy and the wire. No behaviour but keys.

`LocalService` is what a registry has, `FederatedService` what crosses the wire (both protocol versions
are codecs of it), `ImportedService` what a registry is asked to hold of another mesh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Protocol(StrEnum):
    """The protocols of an instance (Hamlet, `federation.types.v1alpha2.FederatedService.Instance`)."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    GRPC = "GRPC"
    HTTP2 = "HTTP2"
    MONGO = "MONGO"
    TCP = "TCP"
    TLS = "TLS"
    MTLS = "MTLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A place where a service can be reached.

    `address` is an IP address or a fully qualified domain name, `port` a TCP port from 1 to 65535.
    `labels` are what an instance's `endpoint_selector`, or a port's name, matches.
    """

    address: str
    port: int
    labels: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One way of calling a federated service: a protocol and how to ask for it.

    `metadata` has the reserved keys SNI, HOSTNAME and PORT, which vendors write in either case: read them
    through the properties. An instance uses the endpoints that carry one of the labels of its
    `endpoint_selector`; with no match, all of them.
    """

    id: str
    protocol: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    endpoint_selector: tuple[str, ...] = ()
    description: str = ""

    def _reserved(self, key: str) -> str:
        return next((value for name, value in self.metadata.items() if name.upper() == key), "")

    @property
    def sni(self) -> str:
        """The TLS server name to send to the owner's ingress, or an empty string."""
        return self._reserved("SNI")

    @property
    def hostname(self) -> str:
        """The host name to ask for inside the connection, or an empty string."""
        return self._reserved("HOSTNAME")

    @property
    def port(self) -> int | None:
        """The port that callers use, or None where the owner names none or no number."""
        value = self._reserved("PORT")
        return int(value) if value.isascii() and value.isdigit() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedService:
    """A service as one mesh offers it to another, in either version of the protocol.

    `name` is the key within the owner's catalog (v1alpha1 has no other key than the `fqdn`). `sans` are
    the subject alternative names that the ingress presents, without the `URI:` that some peers write.
    """

    name: str
    fqdn: str
    endpoints: tuple[Endpoint, ...]
    instances: tuple[Instance, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    sans: tuple[str, ...] = ()

    def endpoints_of(self, instance: Instance) -> tuple[Endpoint, ...]:
        """The endpoints that `instance` uses, by the selector rule of the protocol."""
        wanted = set(instance.endpoint_selector)
        chosen = tuple(endpoint for endpoint in self.endpoints if wanted.intersection(endpoint.labels))
        return chosen or self.endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port that callers of a local service use: its name, number and protocol.

    The endpoints that serve it carry `name` among their labels; a service with one port may leave its
    endpoints unlabelled.
    """

    name: str
    port: int
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalService:
    """A service that a registry has of its own mesh and that could be published.

    `name` is its key in that registry (`orders`, or `orders.shop` where there are namespaces).
    `endpoints` are the healthy ones, as the mesh itself reaches them. `sans` are identities its workloads
    present. `publish_to` names the peers that the registry's own object asks to publish it to (`*` is all):
    it counts only where the configuration allows that.
    """

    name: str
    ports: tuple[ServicePort, ...]
    endpoints: tuple[Endpoint, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    sans: tuple[str, ...] = ()
    publish_to: tuple[str, ...] = ()


class ImportKey(NamedTuple):
    """What identifies an imported service for as long as it lives: the peer and the name it gave."""

    peer: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What an adapter writes beside an entry, in the backend itself, to know it again as ours.

    `trust_domain` and `registry` say which agent wrote it, so that two agents sharing a backend keep
    apart; `digest` is of everything that was to be written (`ImportedService.digest`).
    """

    trust_domain: str
    registry: str
    peer: str
    service: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How workloads of this mesh reach an imported service, as the gateway of this mesh says.

    `endpoints` are the addresses to connect to, by the id of the instance: the egress's where it has one,
    the owner's otherwise. `originates_tls` says that the gateway originates mTLS and callers speak the
    instance's own protocol to those addresses; where it does not, the caller's own proxy must, with the SNI
    and SANs of the service. `settings` are words that a gateway and a registry of one vendor agree on.
    """

    endpoints: Mapping[str, tuple[Endpoint, ...]]
    originates_tls: bool
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedService:
    """A service of another mesh, as a registry should hold it.

    `local_name` is the fully qualified name by which workloads of this mesh reach it: the owner's FQDN,
    or an alias where two peers claim the same one. It is unique among all imports; how a registry writes
    it (Consul allows no dots) is the adapter's documented rule. `route` is how the gateway of this mesh
    takes them there; None where there is no gateway, and the owner's endpoints are what callers get.
    """

    peer: str
    local_name: str
    service: FederatedService
    route: Route | None = None
    _digest: str = field(default="", init=False, repr=False, compare=False)

    def endpoints_of(self, instance: Instance) -> tuple[Endpoint, ...]:
        """Where workloads of this mesh connect to for `instance`: by the route, or as the owner says."""
        if self.route is None:
            return self.service.endpoints_of(instance)
        return self.route.endpoints.get(instance.id, ())

    @property
    def key(self) -> ImportKey:
        """The identity of this import."""
        return ImportKey(self.peer, self.service.name)

    @property
    def digest(self) -> str:
        """A stable digest (hex) of the whole content: equal exactly when a rewrite would change nothing."""
        if not self._digest:  # it is asked for by the plan, by the records of it and by every adapter
            object.__setattr__(self, "_digest", self._content_digest())
        return self._digest

    def _content_digest(self) -> str:
        service = self.service
        content = (
            self.peer,
            self.local_name,
            (
                service.name,
                service.fqdn,
                service.description,
                service.tags,
                sorted(service.labels.items()),
                service.sans,
            ),
            [(e.address, e.port, e.labels, e.description) for e in service.endpoints],
            [
                (i.id, i.protocol, sorted(i.metadata.items()), i.endpoint_selector, i.description)
                for i in service.instances
            ],
            *_of_route(self.route),
        )
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _of_route(route: Route | None) -> tuple[object, ...]:
    """A route's part of a digest; nothing of one that is not there, so that such digests stay as they are."""
    if route is None:
        return ()
    places = [
        (instance, [(e.address, e.port, e.labels, e.description) for e in endpoints])
        for instance, endpoints in sorted(route.endpoints.items())
    ]
    return (places, route.originates_tls, sorted(route.settings.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingImport:
    """An entry that a registry holds and that carries our mark, as `registry_imports` lists it.

    `digest` is the mark's, or an empty string where the entry no longer is what the mark says it was
    written as (someone edited it), so that the core writes it again. `lost_since` is since when the
    entry's peer is lost, as `registry_mark_peer` recorded it; None for a peer that is there.
    """

    key: ImportKey
    local_name: str
    digest: str
    lost_since: datetime | None = None
