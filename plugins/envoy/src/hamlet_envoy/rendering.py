"""All that Envoy should have, from the routes and the trust: its resources, and which routes it cannot have.

It decides only; the same routes give the same bytes, whatever was kept of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hamlet_core.api import ImportKey, ImportRoute, PublishRoute, Refused
from hamlet_envoy import egress, ingress, trust
from hamlet_envoy.kept import Kept
from hamlet_envoy.options import EgressOptions, EnvoyOptions
from hamlet_envoy.ports import allocate
from hamlet_envoy.trust import Believed
from hamlet_envoy.xds import Json

WATCHES_LEFT = 40
"""How many of the user's inotify instances are left to others than Envoy's secrets."""

_NO_INGRESS = Refused("this gateway has no ingress: give it one in hamlet.yaml (`gateway: ingress:`)")
_NO_EGRESS = Refused("this gateway has no egress: give it one in hamlet.yaml (`gateway: egress:`)")
_CROWDED = Refused(
    "Envoy watches the bundles of so many peers that another would exceed the inotify instances of its user:"
    " raise the sysctl fs.inotify.max_user_instances, and restart the agent"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Envoy's resources by name, the ports of the egress, and what is left out with its reason.

    Clusters and listeners are texts (JSON). `publish_refused` is by SNI. A refused route has no resource.
    """

    secrets: Mapping[str, Json]
    clusters: Mapping[str, str]
    listeners: Mapping[str, str]
    ports: Mapping[str, int]
    last_port: int
    publish_refused: Mapping[str, Refused]
    import_refused: Mapping[ImportKey, Refused]


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier renderings made of single routes, with the same options in the same directory."""

    published: Kept[ingress.Offer] = field(default_factory=Kept)
    imported: Kept[egress.Offer] = field(default_factory=Kept)
    listeners: Kept[str] = field(default_factory=Kept)

    def turn(self) -> None:
        """Begin a rendering."""
        for kept in (self.published, self.imported, self.listeners):
            kept.turn()


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
    memory: Memory,
) -> Rendered:
    """Turn all routes into resources.

    `rejected` are names of resources that Envoy itself refused, with its reason; `ingress_pair` is the ingress's
    own certificate and key; `watches` how many inotify instances this user may have; `memory` what is not to be
    made again.
    """
    budget = _Budget(left=watches - WATCHES_LEFT)
    budget.add(trust.OWN, lambda: trust.certificate_secret(trust.OWN, believed.certificate, believed.key))
    own = trust.OWN
    if ingress_pair is not None:
        own = trust.INGRESS
        pair = ingress_pair
        budget.add(own, lambda: trust.certificate_secret(own, *pair))
    memory.turn()
    clusters: dict[str, str] = {}
    listeners: dict[str, str] = {}
    publish_refused = dict.fromkeys(published, _NO_INGRESS)
    if options.ingress is not None:
        make = partial(ingress.offer, believed=believed, options=options.ingress, directory=directory, own=own)
        offers = {
            sni: memory.published.of(sni, (route, believed, own), partial(make, route))
            for sni, route in sorted(published.items())
        }
        publish_refused = _publish_refusals(offers, believed, rejected, budget)
        standing = [each for sni, each in offers.items() if sni not in publish_refused]
        clusters = {ingress.route_name(each.route.sni): each.cluster for each in standing}
        listeners[ingress.LISTENER] = ingress.listener(standing, options.ingress)
    import_refused = dict.fromkeys(imported, _NO_EGRESS)
    given: Mapping[str, int] = {}
    if options.egress is not None:
        ways = {
            key: memory.imported.of(key, (route, believed), partial(egress.offer, route, believed, directory))
            for key, route in sorted(imported.items())
        }
        import_refused = _import_refusals(ways, believed, rejected, budget)
        names = {key: list(each.clusters) for key, each in ways.items() if key not in import_refused}
        given, last_port = _ports(options.egress, names, ports, last_port, is_free, import_refused)
        for key in (key for key in names if key not in import_refused):
            clusters |= ways[key].clusters
            for name in names[key]:
                source = (name, ways[key].secret, options.egress.bind, given[name])
                listeners[name] = memory.listeners.of(name, source, partial(egress.listener, *source))
    return Rendered(
        secrets=budget.secrets,
        clusters=clusters,
        listeners=listeners,
        ports=given,
        last_port=last_port,
        publish_refused=publish_refused,
        import_refused=import_refused,
    )


def _publish_refusals(
    offers: Mapping[str, ingress.Offer], believed: Believed, rejected: Mapping[str, str], budget: _Budget
) -> dict[str, Refused]:
    refused: dict[str, Refused] = {}
    for sni, each in offers.items():
        if (reason := rejected.get(ingress.route_name(sni))) is not None:
            refused[sni] = Refused(f"Envoy rejected it: {reason}")
        elif each.refused is not None:
            refused[sni] = each.refused
        elif not budget.add(each.secret, partial(trust.audience_secret, each.audience, believed)):
            refused[sni] = _CROWDED
    return refused


def _import_refusals(
    offers: Mapping[ImportKey, egress.Offer], believed: Believed, rejected: Mapping[str, str], budget: _Budget
) -> dict[ImportKey, Refused]:
    refused: dict[ImportKey, Refused] = {}
    for key, each in offers.items():
        reasons = [rejected[name] for name in each.clusters if name in rejected]
        if each.refused is not None:
            refused[key] = each.refused
        elif reasons:
            refused[key] = Refused(f"Envoy rejected it: {reasons[0]}")
        elif not budget.add(each.secret, partial(trust.owner_secret, key.peer, believed)):
            refused[key] = _CROWDED
    return refused


def _ports(
    options: EgressOptions,
    ways: Mapping[ImportKey, list[str]],
    before: Mapping[str, int],
    last: int,
    is_free: Callable[[int], bool],
    refused: dict[ImportKey, Refused],
) -> tuple[Mapping[str, int], int]:
    """The ports of all `ways`, and the last one given; those for whom none is left join `refused`."""
    allocation = allocate((way for names in ways.values() for way in names), before, options.range, last, is_free)
    for key, names in ways.items():
        if not allocation.without.isdisjoint(names):
            refused[key] = Refused(
                f"all ports of {options.ports} are taken, and it needs {len(names)}: widen `egress.ports`"
            )
    return allocation.ports, allocation.last
