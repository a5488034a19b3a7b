"""What a terminating gateway's config entry should say of imports, and which it can never say safely. Pure.

Consul has its proxies check one name alone: with `SNI` the owner's certificate must present that very name, or
a wildcard for its first label; without `SNI` any certificate of the authority will do. So an import is linked
only where its SNI is a name that its owner's ingress presents. `versions` says which Consul checks none at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hamlet_consul.credentials import Credentials, peer_of
from hamlet_consul.naming import hashed_name, service_name
from hamlet_core.api import FederatedService, ImportKey, ImportRoute, Protocol, Refused

MEND = "lead calls out by hamlet-envoy instead (`egress: {kind: envoy, ...}`), which checks every kind of name"

PROTOCOLS: dict[str, str] = {Protocol.HTTP: "http", Protocol.HTTP2: "http2", Protocol.GRPC: "grpc"}
"""Those that Consul treats in another way than as bytes."""
_SERVER_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE)

Link = dict[str, Any]
"""One of the `Services` of a config entry, as Consul takes and gives it."""


class Standing(NamedTuple):
    """Under which Consul name a registry of ours holds an import, and the FQDN that it was written for."""

    name: str
    fqdn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where links are written: for which mesh, to which files as the proxy sees them, in which namespace."""

    trust_domain: str
    folder: str
    credentials: Credentials
    namespace: str = ""

    def owner(self, link: Mapping[str, Any]) -> str:
        """The peer whose import the link is for; an empty string for a link of someone else."""
        return peer_of(link.get("CAFile") or "", self.trust_domain)

    def link(self, name: str, route: ImportRoute) -> Link:
        """The link of an import that `refusal` has nothing against, under its Consul name."""
        scope = {"Namespace": self.namespace} if self.namespace else {}
        (sni,) = server_names(route.service)
        return {"Name": name, **scope, **self._files(route.peer), "SNI": sni}

    def renewed(self, link: Link) -> Link | None:
        """The link with the files in force; None for one of a peer that is no longer believed."""
        peer = self.owner(link)
        if not peer:
            return link
        return {**link, **self._files(peer)} if peer in self.credentials.authorities else None

    def _files(self, peer: str) -> dict[str, str]:
        own = self.credentials
        return {
            "CAFile": f"{self.folder}/{own.authorities[peer]}",
            "CertFile": f"{self.folder}/{own.certificate}",
            "KeyFile": f"{self.folder}/{own.key}",
        }


def server_names(service: FederatedService) -> tuple[str, ...]:
    """The different server names that its instances ask for; without one of its own, the FQDN."""
    return tuple(dict.fromkeys((one.sni or service.fqdn).rstrip(".").lower() for one in service.instances))


def covers(san: str, name: str) -> bool:
    """Whether a certificate with the DNS name `san` passes as `name`: equal, or a `*` for the whole first label."""
    san = san.lower()
    if san.startswith("*.") and san[2:]:
        return name.partition(".")[2] == san[2:]
    return san == name


def refusal(route: ImportRoute, credentials: Credentials, unchecked: str = "") -> Refused | None:
    """Why a terminating gateway can never lead to this import as it is, or None.

    `unchecked` names the agents of Consul that are so old that they may have no name checked at all.
    """
    service = route.service
    if unchecked:
        return Refused(
            f"Consul's agent {unchecked} may let any certificate of a peer's authority pass, whatever its name:"
            f" update Consul to 1.13 or newer, or say `names: checked` if it is known to have that mended, or {MEND}"
        )
    if route.peer not in credentials.authorities:
        return Refused(f"there is no bundle of {route.peer}, against which to check its ingress: give the peer one")
    if not service.sans:
        return Refused(
            "its owner names no SANs, so nobody could tell its ingress from another's: the owner has to publish the"
            " names that its ingress presents"
        )
    if not service.instances or not service.endpoints:
        return Refused("its owner names no way of calling it: instances and endpoints are needed")
    names = server_names(service)
    if len(names) > 1:
        return Refused(
            f"its instances ask for different server names ({', '.join(names)}), and a terminating gateway sends one:"
            f" {MEND}"
        )
    places = {frozenset((e.address, e.port) for e in service.endpoints_of(one)) for one in service.instances}
    if len(places) > 1:
        return Refused(
            "its instances have different endpoints, and a terminating gateway takes any of a service's: " + MEND
        )
    (name,) = names
    named = _SERVER_NAME.fullmatch(name) and not name.rpartition(".")[2].isdigit()
    if not named or not any(covers(san, name) for san in service.sans):
        return Refused(
            f"Consul's terminating gateway accepts no name but the SNI, which is {name!r}, and its owner's ingress"
            f" does not present that as a DNS name (it presents {', '.join(service.sans)}); without SNI Consul would"
            f" check no name at all: the owner has to present and publish the DNS name, or {MEND}"
        )
    return None


def protocol(service: FederatedService) -> str:
    """What `service-defaults` should say; an empty string where Consul is to pass bytes on."""
    spoken = {PROTOCOLS.get(one.protocol.upper(), "") for one in service.instances}
    return spoken.pop() if len(spoken) == 1 else ""


def names_of(
    routes: Iterable[ImportRoute], standing: Mapping[ImportKey, Standing], listed: Collection[str]
) -> dict[ImportKey, str]:
    """Under which name of the catalog each import is linked; those left out wait until their entry stands.

    An entry that stands says it. One still to be written will have the plain name, unless that is `listed` already:
    linking a service of someone else would lead its callers astray.
    """
    found: dict[ImportKey, str] = {}
    claimed: dict[str, list[ImportKey]] = {}
    for route in routes:
        if route.key in standing:
            found[route.key] = standing[route.key].name
        else:
            claimed.setdefault(service_name(route.service.fqdn.lower()), []).append(route.key)
    taken = {*found.values(), *listed}
    for name, keys in claimed.items():
        if len(keys) == 1 and name not in taken:
            found[keys[0]] = name
    return found


def kept_names(key: ImportKey, standing: Mapping[ImportKey, Standing]) -> tuple[str, ...]:
    """Under which names an import may be linked of which nothing is known but its entry, if it stands in this Consul.

    Without one, what its name would make of it: a link too many does no harm, and one too few cuts calls.
    """
    if key in standing:
        return (standing[key].name,)
    return service_name(key.name), hashed_name(key.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All links that the entry should have, and the imports that a link of someone else stands in the way of."""

    links: Sequence[Link]
    refused: Mapping[ImportKey, Refused] = field(default_factory=dict)


def decide(
    present: Iterable[Link],
    routes: Mapping[str, ImportRoute],
    kept: Collection[str] | None,
    place: Place,
    gateway: str,
) -> Decision:
    """Bring our links among those `present` to `routes` (by Consul name); others' stay as and where they are.

    Ours of the names `kept` stay as they are too; None keeps all.
    """
    links: list[Link] = []
    refused: dict[ImportKey, Refused] = {}
    left = dict(routes)
    for link in present:
        name = link["Name"]
        mine = (link.get("Namespace") or "default") == (place.namespace or "default")
        route = left.pop(name, None) if mine else None
        if not place.owner(link):
            links.append(link)
            if route is not None:
                refused[route.key] = Refused(
                    f"the terminating gateway {gateway!r} has a link to {name!r} that is not ours: remove that link"
                )
        elif route is not None:
            wanted = place.link(name, route)
            links.append(link if all(link.get(key) == value for key, value in wanted.items()) else wanted)
        elif kept is None or name in kept:
            links.append(link)
    links += [place.link(name, left[name]) for name in sorted(left)]
    return Decision(links=links, refused=refused)
