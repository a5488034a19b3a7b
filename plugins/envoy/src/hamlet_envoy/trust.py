"""Whom to believe, as Envoy's secrets: a peer's bundle for calls out, an audience of peers for calls in.

A secret's content changes live, but standing connections outlive it. So each peer has an epoch: it grows when a
bundle loses an authority, and stands in the names of the secrets; a new name changes what refers to it, and
thereby ends the connections. It decides only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hamlet_core.api import PeerTrust, Trust
from hamlet_envoy import xds
from hamlet_envoy.certificates import authorities
from hamlet_envoy.xds import Json

OWN = "own"
"""The secret of the mesh's own certificate."""
INGRESS = "ingress"
"""The secret of the ingress's certificate, where it has another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How often a peer's bundle has lost an authority, and what it holds now: fingerprints and their expiry."""

    number: int
    authorities: Mapping[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """The trust that is in force: what we present, the peers, and their epochs."""

    certificate: str
    key: str = field(repr=False)
    peers: Mapping[str, PeerTrust]
    epochs: Mapping[str, Epoch]

    def number(self, peer: str) -> int:
        """The epoch of a peer that is there."""
        return self.epochs[peer].number


def believe(trust: Trust, before: Mapping[str, Epoch], now: datetime) -> Believed:
    """What is to be believed from now on.

    An authority that was taken away before it expired begins a new epoch: who it signed may be on the line.
    Raises `ValueError` for a bundle that is no PEM.
    """
    epochs = {}
    for peer in trust.peers:
        held = authorities(peer.bundle)
        last = before.get(peer.peer)
        lost = last is not None and any(
            expiry > now for fingerprint, expiry in last.authorities.items() if fingerprint not in held
        )
        number = 0 if last is None else last.number + lost
        epochs[peer.peer] = Epoch(number=number, authorities=held)
    return Believed(
        certificate=trust.certificate,
        key=trust.key,
        peers={peer.peer: peer for peer in trust.peers},
        epochs=epochs,
    )


def certificate_secret(name: str, certificate: str, key: str) -> Json:
    """What we present."""
    return xds.secret(
        name,
        tls_certificate={
            "certificate_chain": {"inline_string": certificate},
            "private_key": {"inline_string": key},
        },
    )


def owner_name(peer: str, believed: Believed) -> str:
    """The name of the secret by which an owner is judged."""
    return f"owner-{xds.short(peer, str(believed.number(peer)))}"


def owner_secret(peer: str, believed: Believed) -> Json:
    """The bundle of one owner; the names that its certificate must have stand beside the reference."""
    return xds.secret(
        owner_name(peer, believed),
        validation_context={"trusted_ca": {"inline_string": believed.peers[peer].bundle}},
    )


def audience(peers: Iterable[str], believed: Believed) -> tuple[str, ...]:
    """Those of `peers` whose workloads an ingress can tell: that are there, and have a trust domain. Sorted."""
    return tuple(
        sorted({peer for peer in peers if peer in believed.peers and believed.peers[peer].trust_domain is not None})
    )


def audience_name(peers: tuple[str, ...], believed: Believed) -> str:
    """The name of the secret by which callers of an audience are judged."""
    return f"audience-{xds.short(*(part for peer in peers for part in (peer, str(believed.number(peer)))))}"


def audience_secret(peers: tuple[str, ...], believed: Believed) -> Json:
    """The peers' bundles, each for its own trust domain: none can vouch for another's workloads.

    Peers that share a trust domain share what is believed about it, since Envoy takes a domain once.
    """
    bundles: dict[str, str] = {}
    for peer in peers:
        trusted = believed.peers[peer]
        domain = trusted.trust_domain or ""
        bundles[domain] = bundles.get(domain, "") + trusted.bundle.rstrip() + "\n"
    return xds.secret(
        audience_name(peers, believed),
        validation_context={
            "custom_validator_config": xds.extension(
                "envoy.tls.cert_validator.spiffe",
                "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
                trust_domains=[
                    {"name": domain, "trust_bundle": {"inline_string": bundle}}
                    for domain, bundle in sorted(bundles.items())
                ],
            )
        },
    )
