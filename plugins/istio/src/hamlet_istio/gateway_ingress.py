"""Calls in: has the cluster hold, for each published server name, what leads it to its service. It acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from hamlet_core.api import GatewayUnavailable, PeerTrust, PublishRefusals, PublishRoute, Refused, Trust
from hamlet_istio import writing
from hamlet_istio.batch import at_of
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.gateway_kept import Kept, demanded, tried
from hamlet_istio.gateway_objects import (
    INGRESS,
    GatewayApis,
    audience,
    credential_of,
    hosts_of,
    peers_of,
    route_objects,
    secret,
)
from hamlet_istio.gateway_options import IngressOptions, IstioGatewayOptions
from hamlet_istio.marks import Marker
from hamlet_istio.offer import is_address
from hamlet_istio.resources import SECRETS, SERVICES, Resource
from hamlet_istio.standing import At

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


class IngressHalf:
    """Keeps the published routes in one cluster; one call at a time."""

    def __init__(
        self,
        connection: Connection,
        options: IstioGatewayOptions,
        ingress: IngressOptions,
        marker: Marker,
        apis: Callable[[], GatewayApis],
    ) -> None:
        self._connection, self._options, self._ingress = connection, options, ingress
        self._marker, self._apis = marker, apis
        self._kept = Kept(connection, options, marker, INGRESS)
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="istio-gateway")
        self._hosts: dict[str, str] = {}
        self._made: dict[str, _Made] = {}
        """What the last routes were written as: with thousands of them, making that anew costs more than writing."""
        self._routes: Sequence[PublishRoute] | None = None

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def trust(self, trust: Trust) -> None:
        """Have every secret that stands say so, and every route that was published last."""
        trusted = {peer.peer: peer for peer in trust.peers}
        apis = self._known()

        def renew(at: At, live: Object) -> None:
            peers = [trusted[name] for name in peers_of(live) if name in trusted]
            if peers:
                self._kept.put(SECRETS, self._secret(peers, trust, peers_of(live)))
            else:  # nobody is left whom it could verify: without it the door stays shut
                self._kept.drop(SECRETS, at)

        for at, live in self._kept.ours(SECRETS.kind).items():
            self._demand(lambda at=at, live=live: renew(at, live))  # type: ignore[misc]
        if self._routes is not None:
            for sni, refused in self._settle(self._routes, trust, apis).items():
                _log.warning("a published route is refused after a change of trust", sni=sni, reason=refused.reason)

    def publish(self, routes: Sequence[PublishRoute], trust: Trust) -> PublishRefusals:
        """Have these routes stand, and nothing else of ours."""
        apis = self._known()
        self._routes = tuple(routes)
        return self._settle(routes, trust, apis)

    def _known(self) -> GatewayApis:
        apis = self._apis()
        namespace = self._ingress.namespace
        places = [(resource, namespace) for resource in (*apis.of_a_route, SECRETS)]
        self._kept.learn(places, whole=apis.gateways)
        return apis

    def _demand(self, act: Callable[[], None]) -> None:
        try:
            demanded(tried(act))
        except GatewayUnavailable:
            self._kept.distrust()
            raise

    def _settle(self, routes: Sequence[PublishRoute], trust: Trust, apis: GatewayApis) -> dict[str, Refused]:
        plan = self._plan(routes, trust, apis)  # what it cannot find out now raises, and nothing is taken away
        wanted = {at_of(body) for each in plan.bodies.values() for body in each}
        self._drop(apis, lambda at: at not in wanted)
        for body, found in self._each(plan.secrets.values(), lambda body: self._kept.put(SECRETS, body)):
            if isinstance(found, GatewayUnavailable):
                raise self._failed(found)
            if isinstance(found, writing.Refused):
                plan.refuse_audience(body["metadata"]["name"], str(found))
        failure = self._stand(plan, apis)
        unwanted = {at_of(body) for sni in plan.refused for body in plan.bodies.get(sni, ())}
        self._drop(apis, lambda at: at in unwanted)
        if failure is not None:
            raise self._failed(failure)
        self._drop_all(SECRETS, [at for at in self._kept.ours(SECRETS.kind) if at.name not in plan.secrets])
        self._hosts = {route.service: self._hosts[route.service] for route in routes if route.service in self._hosts}
        return plan.refused

    def _plan(self, routes: Sequence[PublishRoute], trust: Trust, apis: GatewayApis) -> _Plan:
        trusted = {peer.peer: peer for peer in trust.peers}
        taken = self._taken_hosts()
        plan = _Plan()
        made: dict[str, _Made] = {}
        due: list[PublishRoute] = []
        for route in routes:
            before = self._made.get(route.sni)
            if before and before.fits(route, audience(route, trusted), apis) and route.sni not in taken:
                made[route.sni] = before
            else:
                due.append(route)

        def make(route: PublishRoute) -> _Made:
            peers = self._callers(route, trusted, taken)
            bodies = route_objects(route, peers, self._host(route), self._ingress, self._marker, apis)
            return _Made(route, peers, apis, bodies)

        for route, found in self._each(due, make):
            if isinstance(found, GatewayUnavailable):
                raise self._failed(found)
            if isinstance(found, writing.Refused):
                plan.refused[route.sni] = Refused(str(found))
            else:
                made[route.sni] = found
        for sni, each in made.items():
            names = [peer.peer for peer in each.peers]
            name = credential_of(names, self._ingress, self._marker)
            plan.bodies[sni], plan.credentials[sni] = each.bodies, name
            if name not in plan.secrets:
                plan.secrets[name] = self._secret(each.peers, trust, names)
        self._made = made
        return plan

    def _stand(self, plan: _Plan, apis: GatewayApis) -> GatewayUnavailable | None:
        """Write what is not refused, each for itself; the first that may go well later."""
        resources = {resource.kind: resource for resource in apis.of_a_route}
        failure = None

        def one(sni: str) -> None:
            for body in plan.bodies[sni]:
                self._kept.put(resources[body["kind"]], body)

        due = [
            sni
            for sni, bodies in plan.bodies.items()
            if sni not in plan.refused and not all(map(self._kept.stands, bodies))
        ]
        for sni, found in self._each(due, one):
            if isinstance(found, writing.Refused):
                plan.refused[sni] = Refused(str(found))
            elif isinstance(found, GatewayUnavailable):
                failure = failure or found
        return failure

    def _callers(
        self, route: PublishRoute, trusted: Mapping[str, PeerTrust], taken: Mapping[str, str]
    ) -> tuple[PeerTrust, ...]:
        peers = audience(route, trusted)
        if not peers:
            names = ", ".join(sorted(route.peers)) or "nobody"
            message = (
                f"it is published to {names}, of whom none has a SPIFFE trust domain and a bundle, by which the"
                " ingress tells who calls: give one of these peers a trust domain, or publish without this gateway"
            )
            raise writing.Refused(message)
        if route.sni in taken:
            message = (
                f"Gateway {taken[route.sni]} serves {route.sni} on port {self._ingress.port} already, and Istio takes"
                " the older one: take the host out there, or publish it under another name"
            )
            raise writing.Refused(message)
        return peers

    def _host(self, route: PublishRoute) -> str:
        """The host of its service in the mesh, by the rule of the registry: `<name>.<namespace>`."""
        found = self._hosts.get(route.service)
        if found is None:
            found = self._hosts[route.service] = self._ask_host(route)
        return found

    def _ask_host(self, route: PublishRoute) -> str:
        name, _, namespace = route.service.rpartition(".")
        if name and namespace and "/" not in route.service and not is_address(route.service):
            if self._get(SERVICES, namespace, name) is not None:
                return f"{name}.{namespace}.svc.{self._options.cluster_domain}"
            entry = self._get(self._apis().entries, namespace, name)
            hosts = ((entry or {}).get("spec") or {}).get("hosts") or ()
            if hosts:
                return str(hosts[0])
        message = (
            f"{route.service!r} of registry {route.registry!r} is no Service and no ServiceEntry of this cluster, to"
            " which alone this gateway leads: register it here, or publish it with `direct: true`"
        )
        raise writing.Refused(message)

    def _get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return self._connection.call("GET", resource.path(namespace, name), patiently=True)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def _taken_hosts(self) -> dict[str, str]:
        """The names that Gateways of others serve on our port, with who does."""
        return {
            host: f"{each['metadata']['namespace']}/{each['metadata']['name']}"
            for each in self._kept.others
            for host in hosts_of(each, self._ingress.port)
        }

    def _secret(self, peers: Sequence[PeerTrust], trust: Trust, names: Sequence[str]) -> Object:
        """The secret of the audience `names`, with the bundles of those of it that are `peers`."""
        return secret(
            credential_of(names, self._ingress, self._marker),
            self._ingress.namespace,
            trust,
            [peer.bundle for peer in peers],
            self._marker,
            INGRESS,
            peers=",".join(sorted(names)),
        )

    def _drop(self, apis: GatewayApis, unwanted: Callable[[At], bool]) -> None:
        """Take objects out, the doors first: what can be called is never without its policy."""
        for resource in reversed(apis.of_a_route):
            self._drop_all(resource, [at for at in self._kept.ours(resource.kind) if unwanted(at)])

    def _drop_all(self, resource: Resource, stale: Sequence[At]) -> None:
        for _, found in self._each(stale, lambda at: self._kept.drop(resource, at)):
            if found is not None:
                raise self._failed(GatewayUnavailable(str(found), mend=getattr(found, "mend", "")))

    def _each(self, things: Any, act: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
        """What came of each, several at a time."""
        ordered = list(things)
        return list(zip(ordered, self._pool.map(lambda each: tried(lambda: act(each)), ordered), strict=True))

    def _failed(self, failure: GatewayUnavailable) -> GatewayUnavailable:
        self._kept.distrust()
        return failure


@dataclass(frozen=True, slots=True)
class _Made:
    """What a route is written as."""

    route: PublishRoute
    peers: tuple[PeerTrust, ...]
    apis: GatewayApis
    bodies: list[Object]

    def fits(self, route: PublishRoute, peers: tuple[PeerTrust, ...], apis: GatewayApis) -> bool:
        """Whether it would be written as the same again."""
        return self.route == route and self.peers == peers and self.apis == apis


@dataclass(slots=True)
class _Plan:
    """What should stand: the objects and the secret of each server name, the secrets by name, and what is refused."""

    bodies: dict[str, list[Object]] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Object] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)

    def refuse_audience(self, credential: str, reason: str) -> None:
        """Refuse every route that needs this secret."""
        self.refused |= {sni: Refused(reason) for sni, name in self.credentials.items() if name == credential}
