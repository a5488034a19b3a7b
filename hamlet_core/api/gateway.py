"""What passes between the core and a gateway: trust, routes into this mesh, routes out of it. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from hamlet_core.api.model import Endpoint, FederatedService, ImportKey, Route, ServicePort


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """How other meshes reach this one: the addresses, and the names that the ingress presents there.

    `sans` are SPIFFE IDs or DNS names without a `URI:` before them; who terminates TLS decides them.
    """

    endpoints: tuple[Endpoint, ...]
    sans: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTrust:
    """Whom to believe for one peer: its `bundle` (PEM) alone.

    `trust_domain` is None for a peer without SPIFFE: its workloads cannot be told by a trust domain.
    """

    peer: str
    trust_domain: str | None
    bundle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Our certificate (PEM, leaf first, then intermediates) with its key, and whom to believe."""

    certificate: str
    key: str = field(repr=False)
    peers: tuple[PeerTrust, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRoute:
    """One port of a published service: the server name `sni` leads to `endpoints`, for workloads of `peers`.

    `fqdn` is the published name, `service` and `registry` say which local service it is. `endpoints` are
    the healthy ones that serve `port`, as the mesh itself reaches them; there is at least one.
    """

    sni: str
    fqdn: str
    registry: str
    service: str
    port: ServicePort
    endpoints: tuple[Endpoint, ...]
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRoute:
    """A service of `peer` that workloads here are to reach. Its SNIs, SANs and endpoints are in `service`."""

    peer: str
    service: FederatedService

    @property
    def key(self) -> ImportKey:
        """The identity of the import."""
        return ImportKey(self.peer, self.service.name)


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway will never take a route as it is; `reason` says why, and what to change."""

    reason: str


ImportAnswer: TypeAlias = Route | Refused
"""What a gateway says about one `ImportRoute`."""

PublishRefusals: TypeAlias = Mapping[str, Refused]
"""The published routes that a gateway will not take, by SNI; empty when it took all."""
