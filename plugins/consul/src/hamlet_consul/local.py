"""What becomes a service that could be published, and in which form: from Consul's tables to `LocalService`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hamlet_consul.catalog import Catalog, Registered
from hamlet_core.api import Endpoint, LocalService, Protocol, ServicePort

CONSUL = "consul"
PROTOCOLS = {protocol.value.lower(): protocol for protocol in Protocol}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How an operator wants services read; `trust_domain` is that of Connect's authority, empty without one."""

    publish_key: str = "hamlet-publish"
    protocol_key: str = "protocol"
    passing_only: bool = True
    gateway_kind: str = ""
    gateway_service: str = ""
    namespace: str = "default"
    trust_domain: str = ""

    @property
    def has_gateway(self) -> bool:
        """Whether endpoints are those of a gateway."""
        return bool(self.gateway_kind or self.gateway_service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the form of every service depends on: who is in the mesh of Connect, and where the gateway is."""

    connected: frozenset[str] = frozenset()
    outside: tuple[Endpoint, ...] = ()


def shared_of(catalog: Catalog, rules: Rules) -> Shared:
    """Look through all instances for sidecars, native services and the gateway."""
    connected, outside = set(), set()
    for name, instances in catalog.instances.items():
        for one in instances.values():
            if one.native:
                connected.add(name)
            if one.kind == "connect-proxy" and one.destination:
                connected.add(one.destination)
            if _is_gateway(one, rules) and catalog.passing(one):
                outside.add(one.wan or (one.address, one.port))
    endpoints = tuple(Endpoint(address=address, port=port) for address, port in sorted(outside) if port)
    return Shared(connected=frozenset(connected), outside=endpoints)


def local_service(name: str, catalog: Catalog, rules: Rules, shared: Shared) -> LocalService | None:
    """The service `name` as the mesh has it, or None where nothing of it could be published.

    Left out are `consul`, proxies and gateways, what was imported, and instances without a port. The port that
    callers use is the one that most instances have; tags are those of any instance, labels those meta that
    all instances agree on.
    """
    instances = [
        one
        for _, one in sorted(catalog.instances.get(name, {}).items())
        if not one.kind and not one.imported and one.port and not _is_gateway(one, rules)
    ]
    if name == CONSUL or not instances:
        return None
    healthy = [one for one in instances if not rules.passing_only or catalog.passing(one)]
    counted = Counter(one.port for one in healthy or instances)
    port = min(counted, key=lambda number: (-counted[number], number))
    protocol = _protocol(instances, catalog.protocols.get(name, ""), rules)
    if rules.has_gateway:
        endpoints = shared.outside if healthy else ()
    else:
        endpoints = tuple(sorted({Endpoint(address=one.address, port=one.port) for one in healthy}, key=_order))
    labels = dict(set.intersection(*(set(one.meta.items()) for one in instances)))
    labels.pop(rules.publish_key, None)
    tags = dict.fromkeys(tag for one in instances for tag in one.tags)
    marked = f"{rules.publish_key}="
    return LocalService(
        name=name,
        ports=(ServicePort(name=protocol.value.lower(), port=port, protocol=protocol),),
        endpoints=endpoints,
        description=labels.pop("description", ""),
        tags=tuple(sorted(tag for tag in tags if not tag.startswith(marked))),
        labels=dict(sorted(labels.items())),
        sans=_sans(name, instances[0], rules) if name in shared.connected else (),
        publish_to=_publish_to(instances, rules.publish_key),
    )


def _is_gateway(one: Registered, rules: Rules) -> bool:
    return bool(
        (rules.gateway_kind and one.kind == rules.gateway_kind)
        or (rules.gateway_service and one.name == rules.gateway_service)
    )


def _order(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.address, endpoint.port


def _protocol(instances: Sequence[Registered], default: str, rules: Rules) -> Protocol:
    for said in (*_said(instances, rules.protocol_key), default):
        if said.lower() in PROTOCOLS:
            return PROTOCOLS[said.lower()]
    return Protocol.TCP


def _said(instances: Iterable[Registered], key: str) -> list[str]:
    """What instances say about themselves under `key`, in their meta or as a tag `key=value`."""
    said = []
    for one in instances:
        if key in one.meta:
            said.append(one.meta[key])
        said += [tag.partition("=")[2] for tag in one.tags if tag.startswith(f"{key}=")]
    return said


def _publish_to(instances: Iterable[Registered], key: str) -> tuple[str, ...]:
    peers = {peer.strip() for said in _said(instances, key) for peer in said.split(",")}
    return tuple(sorted(peers - {""}))


def _sans(name: str, one: Registered, rules: Rules) -> tuple[str, ...]:
    """The identity of a service in Connect (Consul, "Connect: certificate authority", SPIFFE)."""
    if not rules.trust_domain:
        return ()
    return (f"spiffe://{rules.trust_domain}/ns/{rules.namespace}/dc/{one.datacenter}/svc/{name}",)
