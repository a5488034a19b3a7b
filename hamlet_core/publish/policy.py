"""Which local service is published to which peer, and as what: one pure decision, no state.

It does not know what other services are published (`publication` settles who gets a name that two want).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    Ingress,
    Instance,
    InvalidService,
    LocalService,
    PublishRoute,
    ServicePort,
)
from hamlet_core.config.model import Config, PublishRule, Select
from hamlet_core.config.values import dns_name, split_host_port
from hamlet_core.wire.service import plain_san

DEFAULT_TEMPLATE: str = PublishRule.model_fields["name"].default
EVERY_MESH_HAS = ("svc.cluster.local", "consul")
"""Domains that each mesh resolves to services of its own, so that no mesh can publish under them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything of the configuration that publishing depends on.

    `registries` are in order of precedence: the first one wins a name that two want. Without an `ingress`
    only rules that say `direct` publish anything; `gated` says that a plugin's gateway has to lead to a
    service before it is published, and tells the `ingress` when it knows it.
    """

    mesh: str
    domain: str
    rules: tuple[PublishRule, ...]
    peers: tuple[str, ...]
    registries: tuple[str, ...]
    ingress: Ingress | None = None
    gated: bool = False

    @classmethod
    def of(cls, config: Config, ingress: Ingress | None = None) -> Policy:
        """The policy that the configuration states; `ingress` is what a plugin's gateway says, if there is one."""
        gated = config.way_in is not None
        if not gated:
            ingress = None
        if config.gateway is not None and not gated:
            reached_at = {split_host_port(endpoint) for endpoint in config.gateway.endpoints}
            ingress = Ingress(
                endpoints=tuple(Endpoint(address=host, port=port) for host, port in sorted(reached_at)),
                sans=_ordered_sans(config.gateway.sans),
            )
        return cls(
            mesh=config.mesh.name,
            domain=config.mesh.domain,
            rules=config.publish,
            peers=tuple(config.peers),
            registries=tuple(config.registries),
            ingress=ingress,
            gated=gated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A form in which a service is published; `rules` has the number of the deciding rule per peer.

    `routes` are what the gateway must lead to the service before; whom they are for is added by the gate.
    """

    service: FederatedService
    rules: Mapping[str, int]
    routes: tuple[PublishRoute, ...] = ()

    @property
    def to(self) -> frozenset[str]:
        """The peers that get it."""
        return frozenset(self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """Rule number `rule` would publish a service to the peers `to`, and cannot: `reason` says why."""

    rule: int
    to: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one local service. A service that no rule fits has neither forms nor problems."""

    published: tuple[Published, ...] = ()
    problems: tuple[Unpublished, ...] = ()


def decide(service: LocalService, registry: str, policy: Policy, now: datetime) -> Decision:
    """Say to whom and as what `service` of `registry` is published at `now` (with zone).

    For each peer the first active rule that fits decides, also when its decision cannot be carried out:
    falling through to the next rule would publish a service in a way that its rule rules out.
    """
    fitting = [
        (number, rule)
        for number, rule in enumerate(policy.rules)
        if rule.active(now) and fits(rule.select, service, registry)
    ]
    deciding: dict[int, set[str]] = {}
    for peer in policy.peers if fitting else ():
        for number, rule in fitting:
            if concerns(rule, peer) and (not rule.select.marked or _asks_for(service, peer)):
                if rule.to:
                    deciding.setdefault(number, set()).add(peer)
                break
    forms: dict[tuple[str, bool], Published] = {}
    problems = []
    for number, peers in sorted(deciding.items()):
        rule = policy.rules[number]
        try:
            name = _published_name(rule, service, registry, policy)
            form = forms.get((name, rule.direct))
            federated = form.service if form else _federated(service, name, rule.direct, policy)
            routes = () if rule.direct or not policy.gated else routes_of(service, name, registry)
        except InvalidService as error:
            problems.append(Unpublished(rule=number, to=frozenset(peers), reason=str(error)))
            continue
        rules = {**(form.rules if form else {}), **dict.fromkeys(sorted(peers), number)}
        forms[name, rule.direct] = Published(service=federated, rules=rules, routes=routes)
    return Decision(published=tuple(forms.values()), problems=tuple(problems))


def concerns(rule: PublishRule, peer: str) -> bool:
    """Whether the rule decides for the peer; what it selects is another question. Without peers it does for all."""
    return rule.to == "all" or not rule.to or peer in rule.to


def fits(select: Select, service: LocalService, registry: str) -> bool:
    """Whether every condition that does not depend on the peer holds (`marked` does depend on it)."""
    return (
        (select.registry is None or select.registry == registry)
        and any(fnmatchcase(service.name, pattern) for pattern in select.name)
        and set(select.tags).issubset(service.tags)
        and all(
            label in service.labels and fnmatchcase(service.labels[label], pattern)
            for label, pattern in select.labels.items()
        )
    )


def audience_of(policy: Policy, peer: str) -> str:
    """The key of the view that `peer` has: equal for peers that must see the same.

    A decision depends on the peer only through the rules that name it and, in a `marked` rule, through
    the service's own list of peers. So the key is made of the former, and holds the peer itself as soon as
    one of them is `marked`. It is made of what the rules say but `to`, not of their numbers: a rule
    added for someone else leaves the key, and with it every stream that reads the view, as it was. A peer
    that the policy does not know sees nothing, whatever rules are for `all`.
    """
    rules = [rule for rule in policy.rules if peer in policy.peers and concerns(rule, peer)]
    text = "\n".join(rule.model_dump_json(exclude={"to"} if rule.to else None) for rule in rules)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{key}@{peer}" if any(rule.select.marked for rule in rules) else key


def names_of(service: LocalService, registry: str, policy: Policy) -> frozenset[str]:
    """Every name by which `service` is known here, or could come to be known outside.

    That is its name in its registry, and the FQDN it has by the default template and by each rule that
    fits, whomever and whenever the rule is for: an import that took one of them would collide with it.
    """
    templates = {DEFAULT_TEMPLATE}
    templates.update(rule.name for rule in policy.rules if fits(rule.select, service, registry))
    rendered = {_render(template, service.name, registry, policy) for template in templates}
    return frozenset({service.name, service.name.lower(), *rendered})


def _asks_for(service: LocalService, peer: str) -> bool:
    return "*" in service.publish_to or peer in service.publish_to


def _render(template: str, name: str, registry: str, policy: Policy) -> str:
    return template.format(name=name, registry=registry, mesh=policy.mesh, domain=policy.domain).lower()


def _published_name(rule: PublishRule, service: LocalService, registry: str, policy: Policy) -> str:
    """The FQDN by the rule's template; `InvalidService` when it may not be published under that."""
    name = _render(rule.name, service.name, registry, policy)
    _require_fqdn(name, f"by the rule's name {rule.name!r} it would be published as")
    for domain in EVERY_MESH_HAS:
        if name == domain or name.endswith(f".{domain}"):
            message = (
                f"{name!r} lies under {domain!r}, which every mesh has for itself:"
                f" give the rule a name under {policy.domain!r}"
            )
            raise InvalidService(message)
    if name != policy.domain and not name.endswith(f".{policy.domain}"):
        # Another domain is the operator's to write into the rule, not the registry's to choose by a name.
        _, sign, after = _render(rule.name, "\0", registry, policy).rpartition("\0")
        if sign and not after.startswith("."):
            message = (
                f"{name!r} lies outside our domain {policy.domain!r}, and the rule's name {rule.name!r}"
                f" leaves the domain to the registry: write it into the rule"
            )
            raise InvalidService(message)
    return name


def _require_fqdn(name: str, what: str) -> None:
    """RFC 1123, section 2.1: labels of letters, digits and hyphens, and not to be mistaken for an address."""
    try:
        dns_name(name)
    except ValueError as error:
        message = f"{what} {name!r}, which is no domain name (RFC 1123): choose a name for it in the rule"
        raise InvalidService(message) from error
    last = name.rpartition(".")[2]
    if last == name or last.isdigit():
        message = f"{what} {name!r}, which is not fully qualified: end the rule's name in a domain"
        raise InvalidService(message)


def _federated(service: LocalService, name: str, direct: bool, policy: Policy) -> FederatedService:
    """`service` as it is published under `name`; everything in an order that equal states share."""
    if not service.ports:
        message = "it has no port: name at least one in its registry"
        raise InvalidService(message)
    if not direct and policy.ingress is None:
        message = (
            "the gateway has no ingress, or has not said yet how it is reached: set one, or say `direct: true`"
            if policy.gated
            else "there is no gateway: configure one, or say `direct: true` in the rule"
        )
        raise InvalidService(message)
    served = _served(service)
    own = _ordered_endpoints(service.endpoints)
    if direct or policy.ingress is None:
        endpoints, sans = own, _ordered_sans(service.sans)
    else:
        endpoints = _ordered_endpoints(policy.ingress.endpoints)
        sans = _presented_sans(policy.ingress.sans, server_names(service.ports, name))
    instances = []
    for port, sni in zip(service.ports, server_names(service.ports, name), strict=True):
        _require_fqdn(sni, f"the server name of its port {port.name!r} would be")
        if port in served:
            instances.append(
                Instance(
                    id=port.name,
                    protocol=str(port.protocol),
                    metadata={"SNI": sni, "HOSTNAME": name, "PORT": str(port.port)},
                    endpoint_selector=(port.name,) if direct else (),
                )
            )
    federated = FederatedService(
        name=name,
        fqdn=name,
        description=service.description,
        tags=tuple(sorted(set(service.tags))),
        labels=dict(sorted(service.labels.items())),
        sans=sans,
        endpoints=endpoints,
        instances=tuple(instances),
    )
    _require_encodable(federated)
    return federated


def _served(service: LocalService) -> tuple[ServicePort, ...]:
    """The ports that healthy endpoints serve.

    A port none of whose endpoints is healthy must not go out: by the selector rule of the protocol a label
    that matches nothing stands for all endpoints, which serve other ports.
    """
    if not service.endpoints:
        message = "no healthy endpoint"
        raise InvalidService(message)
    if len(service.ports) == 1:
        return service.ports
    labels = {label for endpoint in service.endpoints for label in endpoint.labels}
    served = tuple(port for port in service.ports if port.name in labels)
    if not served:
        names = ", ".join(port.name for port in service.ports)
        message = (
            f"no healthy endpoint for any of its ports: with several ports ({names}) an endpoint"
            " carries the names of those that it serves as labels"
        )
        raise InvalidService(message)
    return served


def routes_of(service: LocalService, name: str, registry: str) -> tuple[PublishRoute, ...]:
    """What a gateway must lead to `service`, published as `name`: one route for each port that is served."""
    single, served = len(service.ports) == 1, set(_served(service))
    return tuple(
        PublishRoute(
            sni=sni,
            fqdn=name,
            registry=registry,
            service=service.name,
            port=port,
            endpoints=_ordered_endpoints(
                tuple(each for each in service.endpoints if single or port.name in each.labels)
            ),
            peers=(),
        )
        for port, sni in zip(service.ports, server_names(service.ports, name), strict=True)
        if port in served
    )


def server_names(ports: tuple[ServicePort, ...], fqdn: str) -> tuple[str, ...]:
    """The SNI of each port: the FQDN for the first one, `<port name>.<fqdn>` for the others, all different.

    The order of the ports is the registry's and means something. A port's name is made a DNS label: what
    DNS does not know becomes a hyphen, and the port's number tells those apart that become the same.
    """
    names = [fqdn]
    for port in ports[1:]:
        label = re.sub(r"[^a-z0-9]+", "-", port.name.lower()).strip("-")[:50].strip("-") or "port"
        numbered = (f"{label}-{port.port}-{count}" for count in itertools.count(2))
        candidates = itertools.chain((label, f"{label}-{port.port}"), numbered)
        names.append(next(name for each in candidates if (name := f"{each}.{fqdn}") not in names))
    return tuple(names)


def _ordered_endpoints(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    ordered = {replace(endpoint, labels=tuple(sorted(set(endpoint.labels)))) for endpoint in endpoints}
    return tuple(sorted(ordered, key=lambda each: (each.address, each.port, each.labels, each.description)))


def _ordered_sans(sans: tuple[str, ...]) -> tuple[str, ...]:
    """Without the `URI:` that some people write, as `FederatedService.sans` has them."""
    return tuple(sorted({plain_san(san) for san in sans}))


def _presented_sans(sans: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The SANs of the ingress as consumers can match them: a wildcard stands for the server names it covers.

    It covers one label (RFC 6125, section 6.4.3); for others that is no name at all. `InvalidService` when
    nothing is left.
    """
    covered = {name for name in names if f"*.{name.partition('.')[2]}" in sans}
    found = _ordered_sans((*(san for san in sans if not san.startswith("*")), *covered))
    if not found:
        message = f"the ingress presents {', '.join(sans)}, which covers none of {', '.join(names)}"
        raise InvalidService(message)
    return found


def _require_encodable(service: FederatedService) -> None:
    """Refuse what a registry may hold and the wire cannot: ports out of range, lone surrogates in a text."""
    numbers = [endpoint.port for endpoint in service.endpoints]
    numbers += [int(instance.metadata["PORT"]) for instance in service.instances]
    for number in numbers:
        if not 1 <= number <= 65535:
            message = f"port {number} is none (1 to 65535): mend it in the registry"
            raise InvalidService(message)
    texts = [service.description, *service.tags, *service.labels, *service.labels.values(), *service.sans]
    texts += [instance.id for instance in service.instances]
    for endpoint in service.endpoints:
        texts += [endpoint.address, endpoint.description, *endpoint.labels]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        message = f"one of its texts is not Unicode ({error.reason}): mend it in the registry"
        raise InvalidService(message) from error
