"""Between the publication and the catalog: a service is offered once the gateway leads to it, and not before.

What needs no route passes at once, and so does every removal: the gateway forgets a route afterwards. It
calls no gateway; who does asks for `wanted` and reports with `settle`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hamlet_core.api import FederatedService, Protocol, PublishRefusals, PublishRoute
from hamlet_core.publish.catalog import Catalog


class Offer(NamedTuple):
    """A service as it is to be published, the routes it needs (`peers` empty), and its rank.

    Of two services that need one SNI the lower rank gets it, for all audiences: the SNI alone tells the
    ingress where a connection goes.
    """

    service: FederatedService
    routes: tuple[PublishRoute, ...]
    rank: tuple[int, str]


_Place = tuple[str, str]
"""An audience, and a published name in it."""


class _Passed(NamedTuple):
    """The form of a service that an audience is offered, the routes it needs, and for which peers it passed."""

    service: FederatedService
    routes: tuple[PublishRoute, ...]
    peers: frozenset[str]


class Gate:
    """What should be published, what the gateway leads to, and what of it therefore stands in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._offers: dict[_Place, Offer] = {}
        self._passed: dict[_Place, _Passed] = {}
        self._waiting: dict[_Place, str] = {}
        self._peers: dict[str, tuple[str, ...]] = {}
        self._claims: dict[str, set[_Place]] = {}
        self._wanted: dict[str, PublishRoute] = {}
        self._in_force: dict[str, PublishRoute] = {}
        self._refused: dict[str, tuple[PublishRoute, str]] = {}
        self.version = 0
        """Grows with every change of `wanted`."""
        self.opened = False
        """Whether the gateway has answered once: before, what waits is not known to be missing."""

    # --- the publication's side ------------------------------------------------------------------

    def put(self, audience: str, offer: Offer) -> None:
        """Offer a service to an audience under its name, now or once its routes are in force."""
        place = (audience, offer.service.name)
        self._route(self._enter(place, offer))
        if offer.routes:
            self._pass(place)
        else:
            self._catalog.put(audience, offer.service)

    def remove(self, audience: str, name: str) -> None:
        """Withdraw `name` from an audience."""
        self._catalog.remove(audience, name)
        self._route(self._enter((audience, name), None))

    def replace(self, offers: Mapping[str, Sequence[Offer]], peers: Mapping[str, Sequence[str]]) -> None:
        """Make `offers` all that each audience is to be offered; `peers` are the members of each.

        What stood under a name and has to wait in its new form stays in its old one. An audience that is not
        among them claims nothing any more; its log stands still (see `retire`).
        """
        self._peers = {audience: tuple(members) for audience, members in peers.items()}
        wanted = {(audience, each.service.name): each for audience, given in offers.items() for each in given}
        touched = set(self._claims)
        for place in [place for place in self._offers if place not in wanted]:
            touched |= self._enter(place, None)
        for place, offer in wanted.items():
            touched |= self._enter(place, offer)
        self._route(touched)
        offered: dict[str, list[FederatedService]] = {audience: [] for audience in offers}
        for place, offer in wanted.items():
            if offer.routes:
                self._pass(place)
                if place in self._passed:
                    offered[place[0]].append(self._passed[place].service)
            else:
                offered[place[0]].append(offer.service)
        for audience, services in offered.items():
            self._catalog.replace(audience, services)

    def retire(self, audience: str) -> None:
        """Forget an audience that `replace` left out: its log stands still until the last stream has left it."""
        self._catalog.retire(audience)

    def waiting(self, audience: str, name: str) -> str:
        """Why `name` is not offered to an audience in the form it should have, or an empty string."""
        return self._waiting.get((audience, name), "")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Registry, local name and reason of what is refused, or has lost its SNI to another service."""
        for (audience, name), reason in self._waiting.items():
            if reason != WAITS:
                route = self._offers[audience, name].routes[0]
                yield route.registry, route.service, reason

    # --- the gateway's side ----------------------------------------------------------------------

    def wanted(self) -> tuple[PublishRoute, ...]:
        """Every route the gateway should lead, by SNI."""
        return tuple(self._wanted[sni] for sni in sorted(self._wanted))

    def settle(self, given: Sequence[PublishRoute], refusals: PublishRefusals) -> None:
        """The gateway leads `given` now but for `refusals`: let pass what waited, take back what it leads no more.

        It may have been asked before the latest change: what came into force is what counts.
        """
        self.opened = True
        before = self._in_force
        self._in_force = {route.sni: route for route in given if route.sni not in refusals}
        self._refused = {route.sni: (route, refusals[route.sni].reason) for route in given if route.sni in refusals}
        lost = [sni for sni, route in before.items() if not _includes(self._in_force.get(sni), route)]
        places = {place for sni in (*lost, *refusals) for place in self._claims.get(sni, ())}
        for place in sorted({*self._waiting, *places}):
            self._pass(place)

    # --- steps -----------------------------------------------------------------------------------

    def _enter(self, place: _Place, offer: Offer | None) -> set[str]:
        """Note what should be offered, if it needs routes; the SNIs that it, or what was there before, needs."""
        before = self._offers.pop(place, None)
        after = offer if offer is not None and offer.routes else None
        touched = {route.sni for each in (before, after) if each is not None for route in each.routes}
        for sni in touched:
            self._claims.setdefault(sni, set()).discard(place)
        if after is None:
            self._passed.pop(place, None)
            self._waiting.pop(place, None)
        else:
            self._offers[place] = after
            for route in after.routes:
                self._claims[route.sni].add(place)
        return touched

    def _route(self, snis: set[str]) -> None:
        """Settle anew who has each SNI, and whom it is for."""
        displaced: set[_Place] = set()
        for sni in snis:
            route, before = self._winner(sni), self._wanted.get(sni)
            if route is None:
                self._claims.pop(sni, None)
            if route == before:
                continue
            self.version += 1
            if route is None:
                del self._wanted[sni]
            else:
                self._wanted[sni] = route
                if before is not None and _origin(before) != _origin(route):
                    displaced |= self._claims[sni]
        for place in sorted(displaced):
            self._pass(place)

    def _winner(self, sni: str) -> PublishRoute | None:
        places = self._claims.get(sni)
        if not places:
            return None
        best = min(places, key=lambda place: (self._offers[place].rank, place))
        route = self._of(best, sni)
        audiences = {place[0] for place in places if _origin(self._of(place, sni)) == _origin(route)}
        peers = {peer for audience in audiences for peer in self._peers.get(audience, ())}
        return replace(route, peers=tuple(sorted(peers)))

    def _of(self, place: _Place, sni: str) -> PublishRoute:
        return next(route for route in self._offers[place].routes if route.sni == sni)

    def _pass(self, place: _Place) -> None:
        """Offer what may be offered; else let stand what stood, as long as it is led and not ruled out."""
        offer = self._offers[place]
        reason = next(filter(None, (self._obstacle(place[0], route) for route in offer.routes)), "")
        if not reason:
            self._waiting.pop(place, None)
            self._passed[place] = _Passed(offer.service, offer.routes, frozenset(self._peers[place[0]]))
            self._catalog.put(place[0], offer.service)
            return
        self._waiting[place] = reason
        if reason != WAITS or not self._still_led(place):
            self._passed.pop(place, None)
            self._catalog.remove(*place)

    def _obstacle(self, audience: str, route: PublishRoute) -> str:
        """Why a service that needs `route` cannot be offered to an audience, or an empty string."""
        wanted = self._wanted[route.sni]
        if _origin(wanted) != _origin(route):
            return (
                f"its server name {route.sni!r} is taken by {wanted.service!r} of registry {wanted.registry!r}"
                f" (published as {wanted.fqdn!r}): choose another name in a rule"
            )
        refused = self._refused.get(route.sni)
        if refused is not None and refused[0] == wanted:
            return f"the gateway refuses it: {refused[1]}"
        return "" if self._led(route, self._peers[audience]) else WAITS

    def _led(self, route: PublishRoute, peers: Collection[str]) -> bool:
        """Whether the gateway leads where `route` does, for these peers. Its endpoints may be of before."""
        leads = self._in_force.get(route.sni)
        return leads is not None and _end(leads) == _end(route) and set(leads.peers).issuperset(peers)

    def _still_led(self, place: _Place) -> bool:
        """Whether the form that stands is led as it was when it passed; a peer that joined since does not count."""
        stands = self._passed.get(place)
        if stands is None:
            return False
        peers = stands.peers.intersection(self._peers[place[0]])
        return all(self._led(route, peers) for route in stands.routes)


WAITS = "the gateway does not lead to it yet"


def _origin(route: PublishRoute) -> tuple[str, str, str]:
    """What a connection by this route ends at, wherever that runs."""
    return (route.registry, route.service, route.port.name)


def _end(route: PublishRoute) -> tuple[str, str, str, Protocol]:
    """The same, and what is spoken there: a gateway leads HTTP otherwise than TCP."""
    return (*_origin(route), route.port.protocol)


def _includes(route: PublishRoute | None, before: PublishRoute) -> bool:
    """Whether all that was led by `before` is led by `route`."""
    return route is not None and _end(route) == _end(before) and set(route.peers).issuperset(before.peers)
