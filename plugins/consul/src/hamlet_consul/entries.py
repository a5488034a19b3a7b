"""What stands in Consul for one import: its entries, their mark, and whether they are still as written. Pure.

An import has one entry (service instance) for each address of each of its instances, all under one name on
the node of its peer. The node carries the mark of who wrote it; the entries carry the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hamlet_consul.naming import (
    KEYS_LIMIT,
    fingerprint,
    join_value,
    label_meta,
    node_name,
    split_values,
)
from hamlet_core.api import AdapterContext, ImportedService, ImportKey, Instance, InvalidService, StandingImport

NODE_ADDRESS = "192.0.2.1"
"""Of the synthetic nodes: of TEST-NET-1 (RFC 5737), no address of anything. Every entry has its own."""
PEER_CHECK = "hamlet-peer"
"""The one check of a synthetic node: passing, its output says how the peer is."""

TRUST_DOMAIN, REGISTRY, PEER, LOST = "hamlet-trust-domain", "hamlet-registry", "hamlet-peer", "hamlet-lost-since"
SERVICE, LOCAL_NAME, DIGEST = "hamlet-service", "hamlet-local-name", "hamlet-digest"
ENTRIES, WRITTEN = "hamlet-entries", "hamlet-written"
TLS, GATEWAY = "hamlet-tls", "hamlet-gateway"
"""Who is to originate TLS to the entry's address, and the terminating gateway that does so for sidecars."""
TERMINATING_GATEWAY = "consul-terminating-gateway"
"""The word of a route's settings by which our gateway tells the name of the terminating gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A service instance on one of our nodes. `index` is its ModifyIndex; 0: it is not there yet."""

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    index: int = 0

    @property
    def local_name(self) -> str:
        """The name of the import within the mesh, or an empty string where nothing of ours is marked."""
        return join_value(self.meta, LOCAL_NAME)

    @property
    def digest(self) -> str:
        """What `ImportedService.digest` was of what was written."""
        return self.meta.get(DIGEST, "")

    @property
    def written(self) -> str:
        """The fingerprint of this entry as it is."""
        parts = (self.id, self.name, self.address, str(self.port), str(len(self.tags)), *self.tags)
        return fingerprint(parts, self.meta, without=WRITTEN)

    @property
    def intact(self) -> bool:
        """Whether it is what we wrote."""
        return self.meta.get(WRITTEN) == self.written

    def same_as(self, other: Entry) -> bool:
        """Whether both say the same, wherever they stand in Consul's history."""
        return self == other.at(self.index)

    def at(self, index: int) -> Entry:
        """The same entry, at another place in Consul's history."""
        return Entry(
            id=self.id,
            name=self.name,
            address=self.address,
            port=self.port,
            tags=self.tags,
            meta=self.meta,
            index=index,
        )

    def service(self) -> dict[str, Any]:
        """As Consul's transactions take it."""
        return {
            "ID": self.id,
            "Service": self.name,
            "Address": self.address,
            "Port": self.port,
            "Tags": list(self.tags),
            "Meta": dict(self.meta),
            "ModifyIndex": self.index,
        }


def entry_from(service: Mapping[str, Any]) -> Entry:
    """Read a service of `catalog/node-services` or of a transaction's result."""
    return Entry(
        id=service["ID"],
        name=service["Service"],
        address=service.get("Address") or "",
        port=service.get("Port") or 0,
        tags=tuple(service.get("Tags") or ()),
        meta=dict(service.get("Meta") or {}),
        index=service.get("ModifyIndex", 0),
    )


def entries_for(imported: ImportedService, name: str) -> tuple[Entry, ...]:
    """The entries that an import has under `name`; `InvalidService` when Consul cannot hold them."""
    service = imported.service
    places = [(instance, imported.endpoints_of(instance)) for instance in service.instances]
    count = sum(len(endpoints) for _, endpoints in places)
    if not count:
        where = "" if imported.route is None else " by the route of the gateway"
        message = f"{imported.local_name} has no instance with an endpoint{where}"
        raise InvalidService(message)
    entries: list[Entry] = []
    for instance, endpoints in places:
        common = _meta(imported, instance, count)
        tags = tuple(dict.fromkeys((*service.tags, instance.id, instance.protocol.lower())))
        for endpoint in endpoints:
            meta = dict(common)
            entry = Entry(
                id=f"{name}:{len(entries)}",
                name=name,
                address=endpoint.address,
                port=endpoint.port,
                tags=tags,
                meta=meta,
            )
            meta[WRITTEN] = entry.written  # of all the rest
            entries.append(entry)
    return tuple(entries)


def _meta(imported: ImportedService, instance: Instance, count: int) -> dict[str, str]:
    """What all `count` entries of an import say that are of this instance."""
    service = imported.service
    said = {
        PEER: imported.peer,
        SERVICE: service.name,
        LOCAL_NAME: imported.local_name,
        DIGEST: imported.digest,
        ENTRIES: str(count),
        "fqdn": service.fqdn,
        "sans": ",".join(service.sans),
        "description": service.description,
        "protocol": instance.protocol.lower(),
        "hamlet-instance": instance.id,
        "sni": instance.sni,
        "hostname": instance.hostname,
    }
    if imported.route is not None:
        said[TLS] = "gateway" if imported.route.originates_tls else "caller"
        said[GATEWAY] = imported.route.settings.get(TERMINATING_GATEWAY, "")
    meta = split_values({key: value for key, value in said.items() if value})
    meta |= label_meta(service.labels, KEYS_LIMIT - 1 - len(meta))
    if len(meta) + 1 > KEYS_LIMIT:
        message = (
            f"{imported.local_name} has too long a description or too many SANs for the"
            f" {KEYS_LIMIT} pairs of meta that Consul keeps of a service"
        )
        raise InvalidService(message)
    return meta


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerNode:
    """One of our synthetic nodes, or one that stands where ours would: `index` 0 means that there is none."""

    name: str
    meta: Mapping[str, str]
    index: int = 0

    @property
    def lost_since(self) -> datetime | None:
        """Since when its peer is lost."""
        text = self.meta.get(LOST, "")
        try:
            return datetime.fromisoformat(text).astimezone(UTC) if text else None
        except ValueError:
            return None  # someone edited it: the core marks the peer anew when it is lost

    def belongs_to(self, context: AdapterContext) -> bool:
        """Whether this agent's registry wrote it."""
        return self.meta.get(TRUST_DOMAIN) == context.trust_domain and self.meta.get(REGISTRY) == context.name

    def operations(self, peer: str, lost_since: datetime | None) -> list[dict[str, Any]]:
        """Write the node and its check, unless the node has changed since it was read."""
        meta = {key: value for key, value in self.meta.items() if key != LOST}
        output = f"peer {peer} is not lost"
        if lost_since is not None:
            meta[LOST] = lost_since.astimezone(UTC).isoformat()
            output = f"peer {peer} is lost since {meta[LOST]}; what it published is retained and may be stale"
        node = {"Node": self.name, "Address": NODE_ADDRESS, "Meta": meta, "ModifyIndex": self.index}
        check = {
            "Node": self.name,
            "CheckID": PEER_CHECK,
            "Name": f"Hamlet peer {peer}",
            "Status": "passing",
            "Output": output,
        }
        return [{"Node": {"Verb": "cas", "Node": node}}, {"Check": {"Verb": "set", "Check": check}}]


def owner_meta(context: AdapterContext) -> dict[str, str]:
    """The meta by which all our nodes, and no others, are found."""
    return {TRUST_DOMAIN: context.trust_domain, REGISTRY: context.name}


def new_node(context: AdapterContext, peer: str) -> PeerNode:
    """The node of a peer that has none yet."""
    return PeerNode(
        name=node_name(context.mesh, peer),
        # consul-esm shall take care of neither: nothing there answers a ping, and we own the checks.
        meta={"external-node": "true", "external-probe": "false", PEER: peer, **owner_meta(context)},
    )


def is_import(node_meta: Mapping[str, str] | None) -> bool:
    """Whether a node carries the mark of any Hamlet agent: what is on it is no mesh's own."""
    return bool(node_meta) and TRUST_DOMAIN in (node_meta or {})


def key_of(entry: Entry, peer: str) -> ImportKey | None:
    """Which import of `peer` the entry belongs to; None for an entry without our mark."""
    name = join_value(entry.meta, SERVICE)
    return ImportKey(peer, name) if name and entry.meta.get(PEER) == peer else None


def standing(node: PeerNode, entries: Iterable[Entry]) -> list[StandingImport]:
    """The imports that a node of ours holds. One that is not as it was written has an empty digest."""
    peer = node.meta.get(PEER, "")
    found: dict[ImportKey, list[Entry]] = {}
    for entry in entries:
        key = key_of(entry, peer)
        if key is not None:
            found.setdefault(key, []).append(entry)
    imports = []
    for key, group in found.items():
        digests = {entry.digest for entry in group}
        whole = (
            len(digests) == 1
            and all(entry.intact for entry in group)
            and {entry.meta.get(ENTRIES) for entry in group} == {str(len(group))}
        )
        imports.append(
            StandingImport(
                key=key,
                local_name=group[0].local_name,
                digest=digests.pop() if whole else "",
                lost_since=node.lost_since,
            )
        )
    return imports
