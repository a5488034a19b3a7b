"""A gateway in memory: for tests of whatever stands above the gateway's hooks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hamlet_core.api import (
    AdapterOptions,
    AdapterType,
    Endpoint,
    Finding,
    GatewayUnavailable,
    ImportAnswer,
    ImportKey,
    ImportRoute,
    Ingress,
    PublishRefusals,
    PublishRoute,
    Refused,
    Route,
    Severity,
    Stop,
    Trust,
    hookimpl,
)

FIRST_PORT = 20_000
"""The port of the first egress; each import gets the first one that is free, and keeps it."""


class MemoryGateway:
    """What a gateway was told, and what it answers; it outlives its adapters. Any thread may look.

    `outage` makes it unreachable; `refuse` makes it refuse the SNIs and services named there, for the reason given.
    `calls` are the names of the hooks called, in their order. Without `ingress` or without `egress` it leads calls
    one way only.
    """

    def __init__(self, *, ingress: bool = True, egress: bool = True) -> None:
        self.leads_in, self.leads_out = ingress, egress
        self.lock = threading.RLock()
        self.ingress: Ingress | None = Ingress(
            endpoints=(Endpoint(address="192.0.2.1", port=443),), sans=("spiffe://west.example/ingress",)
        )
        self.trust: Trust | None = None
        self.published: dict[str, PublishRoute] = {}
        self.imported: dict[ImportKey, ImportRoute] = {}
        self.ports: dict[tuple[ImportKey, str], int] = {}
        self.refuse: dict[str, str] = {}
        self.calls: list[str] = []
        self.standing: list[Standing] = []
        self.down = False
        self._changed = threading.Condition(self.lock)

    def adapter_type(self) -> AdapterType:
        """The adapter type of kind `memory` that opens this very gateway."""
        return AdapterType(
            kind="memory",
            role="gateway",
            options=AdapterOptions,
            open=lambda options, context: MemoryGatewayAdapter(self),  # noqa: ARG005 - it needs neither
            api_version=1,
            summary="a gateway in memory, for tests",
        )

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Nothing can be asked of it meanwhile."""
        with self._changed:
            self.down = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.down = False
                self._changed.notify_all()

    def move(self, ingress: Ingress | None) -> None:
        """Be reached otherwise from now on; None: nobody knows how."""
        with self._changed:
            self.ingress = ingress
            self._changed.notify_all()

    @property
    def presents(self) -> Collection[str]:
        """The SANs of the certificate that the ingress shows."""
        return self.ingress.sans if self.ingress is not None else ()

    def opened(self) -> None:
        """An adapter has been opened on it: the agent has started."""

    def called(self, hook: str) -> None:
        """Note a call; `GatewayUnavailable` during an outage."""
        with self.lock:
            self.calls.append(hook)
            self.reach()

    def reach(self) -> None:
        """Raise `GatewayUnavailable` during an outage."""
        if self.down:
            message = "the memory is out of reach"
            raise GatewayUnavailable(message)

    def ingresses(self, stop: Stop) -> Iterator[Ingress | None]:
        """Each state of `ingress`, the present one first."""
        told: Ingress | None = None
        stop.on_stop(self._wake)
        if not self.leads_in:
            yield None
            while not stop.wait(0.5):
                pass
        while not stop.is_set():
            with self._changed:
                self.reach()
                if self.ingress is None:
                    message = "no address is assigned yet"
                    raise GatewayUnavailable(message)
                ingress = self.ingress
                if ingress == told:
                    self._changed.wait(timeout=0.5)
                    continue
            told = ingress
            yield ingress

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def believe(self, trust: Trust) -> None:
        """Judge callers by `trust` from now on, and cut those of peers that are no longer in it."""
        self.trust = trust
        bundles = {each.bundle for each in trust.peers}
        for standing in [each for each in self.standing if each.bundle not in bundles]:
            standing.cut = True
            self.standing.remove(standing)

    def publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Lead exactly `routes` in, but for those in `refuse`."""
        if not self.leads_in:
            return {each.sni: Refused("it has no ingress") for each in routes}
        refusals = {each.sni: Refused(self.refuse[each.sni]) for each in routes if each.sni in self.refuse}
        self.published = {each.sni: each for each in routes if each.sni not in refusals}
        return refusals

    def lead(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> dict[ImportKey, ImportAnswer]:
        """Lead exactly `routes` out, and what is there for `keep`."""
        answers = {route.key: self.route(route) for route in routes}
        kept = {key: route for key, route in self.imported.items() if keep is None or key in keep}
        self.imported = kept | {route.key: route for route in routes if isinstance(answers[route.key], Route)}
        left = {*self.imported, *(keep if keep is not None else [key for key, _ in self.ports])}
        self.ports = {place: port for place, port in self.ports.items() if place[0] in left}
        return answers

    def route(self, route: ImportRoute) -> ImportAnswer:
        """The egress of one import: a port of its own for each instance."""
        reason = self.refuse.get(route.key.name) if self.leads_out else "it leads calls in alone"
        if reason is None and not route.service.sans:
            reason = "it has no SANs to verify"
        if reason is not None:
            return Refused(reason)
        return Route(
            endpoints={
                instance.id: (Endpoint(address="192.0.2.2", port=self.port_of((route.key, instance.id))),)
                for instance in route.service.instances
            },
            originates_tls=True,
        )

    def port_of(self, place: tuple[ImportKey, str]) -> int:
        """The port of an import's instance: what it had, or else the first one that is free."""
        if place not in self.ports:
            taken = set(self.ports.values())
            self.ports[place] = next(port for port in itertools.count(FIRST_PORT) if port not in taken)
        return self.ports[place]

    def findings(self) -> Sequence[Finding]:
        """Whether it can be reached."""
        severity, message = (Severity.ERROR, "out of reach") if self.down else (Severity.OK, "in reach")
        return [Finding(subject="memory", severity=severity, message=message)]

    # --- calls -----------------------------------------------------------------------------------

    def admits(self, sni: str, bundle: str | None, trust_domain: str | None) -> Endpoint | None:
        """Where a caller is led to, if anywhere, with a certificate for `trust_domain` by the authority `bundle`.

        None and None: with no certificate.
        """
        route, peers = self.published.get(sni), self.trust.peers if self.trust is not None else ()
        of = (each.peer for each in peers if (each.bundle, each.trust_domain) == (bundle, trust_domain))
        return route.endpoints[0] if route is not None and next(of, None) in route.peers else None

    def believes(self, route: ImportRoute, bundle: str, sans: Collection[str]) -> bool:
        """Whether the ingress at the other end of `route`, signed by `bundle` for `sans`, is the owner's."""
        peers = self.trust.peers if self.trust is not None else ()
        ours = next((each.bundle for each in peers if each.peer == route.peer), None)
        return bundle == ours and not set(sans).isdisjoint(route.service.sans)


@dataclass(eq=False, slots=True, kw_only=True)
class Standing:
    """A connection through the ingress, of a caller with a certificate of the authority `bundle`."""

    bundle: str
    cut: bool = False


class MemoryGatewayAdapter:
    """The hooks of a `MemoryGateway`."""

    def __init__(self, gateway: MemoryGateway) -> None:
        self._gateway = gateway
        gateway.opened()

    @hookimpl
    def gateway_ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        """See `GatewaySpec`."""
        return self._gateway.ingresses(stop)

    @hookimpl
    def gateway_trust(self, trust: Trust) -> bool:
        """See `GatewaySpec`."""
        self._gateway.called("gateway_trust")
        self._gateway.believe(trust)
        return True

    @hookimpl
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """See `GatewaySpec`."""
        self._gateway.called("gateway_publish")
        return self._gateway.publish(routes)

    @hookimpl
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """See `GatewaySpec`."""
        self._gateway.called("gateway_import")
        return self._gateway.lead(routes, keep)

    @hookimpl
    def gateway_check(self) -> Sequence[Finding]:
        """See `GatewaySpec`."""
        return self._gateway.findings()

    @hookimpl
    def gateway_close(self) -> None:
        """See `GatewaySpec`."""
        self._gateway.calls.append("gateway_close")
