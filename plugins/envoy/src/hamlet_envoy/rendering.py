"""All that Envoy should have, from the routes and the trust: its resources, and which routes it cannot have.

It decides only; the same routes give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hamlet_core.api import ImportKey, ImportRoute, PublishRoute, Refused
from hamlet_envoy import egress, ingress, trust
from hamlet_envoy.options import EgressOptions, EnvoyOptions
from hamlet_envoy.ports import allocate
from hamlet_envoy.trust import Believed
from hamlet_envoy.xds import Json

WATCHES_LEFT = 40
"""How many of the user's inotify instances are left to others than Envoy's secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Envoy's resources by name, the ports of the egress, and what is left out with its reason.

    `publish_refused` is by SNI. A refused route has no resource.
    """

    secrets: Mapping[str, Json]
    clusters: Mapping[str, Json]
    listeners: Mapping[str, Json]
    ports: Mapping[str, int]
    last_port: int
    publish_refused: Mapping[str, Refused]
    import_refused: Mapping[ImportKey, Refused]


@dataclass(slots=True)
class _Budget:
    """How many files of secrets there may be.

    Envoy watches each with an inotify instance of its own, of which a user has 128 by default, and aborts
    when there is none left.
    """

    left: int
    secrets: dict[str, Json] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Json]) -> bool:
        """Take the secret in; False when there is no room for it."""
        if name not in self.secrets:
            if self.left <= 0:
                return False
            self.left -= 1
            self.secrets[name] = make()
        return True


def render(
    options: EnvoyOptions,
    directory: Path,
    believed: Believed,
    published: Mapping[str, PublishRoute],
    imported: Mapping[ImportKey, ImportRoute],
    *,
    ports: Mapping[str, int],
    last_port: int,
    rejected: Mapping[str, str],
    ingress_pair: tuple[str, str] | None,
    watches: int,
    is_free: Callable[[int], bool],
) -> Rendered:
    """Turn all routes into resources.

    `rejected` are names of resources that Envoy itself refused, with its reason; `ingress_pair` is the ingress's
    own certificate and key; `watches` how many inotify instances this user may have.
    """
    budget = _Budget(left=watches - WATCHES_LEFT)
    budget.add(trust.OWN, lambda: trust.certificate_secret(trust.OWN, believed.certificate, believed.key))
    own = trust.OWN
    if ingress_pair is not None:
        own = trust.INGRESS
        pair = ingress_pair
        budget.add(own, lambda: trust.certificate_secret(own, *pair))
    standing, publish_refused = _publishable(options, believed, published, rejected, budget)
    clusters: dict[str, Json] = {}
    listeners: dict[str, Json] = {}
    if options.ingress is not None:
        header = options.ingress.caller_header
        clusters = {
            ingress.route_name(route.sni): ingress.cluster_of(route, caller_header=header) for route in standing
        }
        listeners[ingress.LISTENER] = ingress.listener(standing, believed, options.ingress, directory, own=own)
    import_refused = _not_importable(options, believed, imported, rejected, budget)
    callable_routes = [route for key, route in imported.items() if key not in import_refused]
    given: Mapping[str, int] = {}
    if options.egress is not None:
        given, last_port = _ports(options.egress, callable_routes, ports, last_port, is_free, import_refused)
        for route in callable_routes:
            if route.key in import_refused:
                continue
            for instance in route.service.instances:
                name = egress.way_name(route.key, instance.id)
                clusters[name] = egress.cluster_of(route, instance, believed, directory)
                listeners[name] = egress.listener(route, instance, believed, options.egress.bind, given[name])
    return Rendered(
        secrets=budget.secrets,
        clusters=clusters,
        listeners=listeners,
        ports=given,
        last_port=last_port,
        publish_refused=publish_refused,
        import_refused=import_refused,
    )


def _publishable(
    options: EnvoyOptions,
    believed: Believed,
    published: Mapping[str, PublishRoute],
    rejected: Mapping[str, str],
    budget: _Budget,
) -> tuple[list[PublishRoute], dict[str, Refused]]:
    refused: dict[str, Refused] = {}
    standing = []
    for sni, route in sorted(published.items()):
        found = ingress.refusal(route, believed)
        if options.ingress is None:
            found = Refused("this gateway has no ingress: give it one in hamlet.yaml (`gateway: ingress:`)")
        elif (reason := rejected.get(ingress.route_name(sni))) is not None:
            found = Refused(f"Envoy rejected it: {reason}")
        if found is None:
            peers = trust.audience(route.peers, believed)
            name = trust.audience_name(peers, believed)
            if not budget.add(name, lambda peers=peers: trust.audience_secret(peers, believed)):  # type: ignore[misc]
                found = _crowded()
        if found is None:
            standing.append(route)
        else:
            refused[sni] = found
    return standing, refused


def _not_importable(
    options: EnvoyOptions,
    believed: Believed,
    imported: Mapping[ImportKey, ImportRoute],
    rejected: Mapping[str, str],
    budget: _Budget,
) -> dict[ImportKey, Refused]:
    refused: dict[ImportKey, Refused] = {}
    for key, route in sorted(imported.items()):
        found = egress.refusal(route, believed)
        if options.egress is None:
            found = Refused("this gateway has no egress: give it one in hamlet.yaml (`gateway: egress:`)")
        elif found is None:
            reasons = [rejected.get(egress.way_name(key, instance.id)) for instance in route.service.instances]
            found = next((Refused(f"Envoy rejected it: {reason}") for reason in reasons if reason), None)
        if found is None:
            name = trust.owner_name(route.peer, believed)
            if not budget.add(name, lambda peer=route.peer: trust.owner_secret(peer, believed)):  # type: ignore[misc]
                found = _crowded()
        if found is not None:
            refused[key] = found
    return refused


def _ports(
    options: EgressOptions,
    routes: list[ImportRoute],
    before: Mapping[str, int],
    last: int,
    is_free: Callable[[int], bool],
    refused: dict[ImportKey, Refused],
) -> tuple[Mapping[str, int], int]:
    """The ports of `routes`, and the last one given; those for whom none is left join `refused`."""
    ways = {
        route.key: [egress.way_name(route.key, instance.id) for instance in route.service.instances]
        for route in routes
    }
    allocation = allocate((way for names in ways.values() for way in names), before, options.range, last, is_free)
    for key, names in ways.items():
        if not allocation.without.isdisjoint(names):
            refused[key] = Refused(
                f"all ports of {options.ports} are taken, and it needs {len(names)}: widen `egress.ports`"
            )
    return allocation.ports, allocation.last


def _crowded() -> Refused:
    return Refused(
        "Envoy watches the bundles of so many peers that another would exceed the inotify instances of its user:"
        " raise the sysctl fs.inotify.max_user_instances, and restart the agent"
    )
