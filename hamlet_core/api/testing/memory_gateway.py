"""A gateway in memory: for tests of whatever stands above the gateway's hooks."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

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
"""The port of the first egress; each import gets the next one, and keeps it."""


class MemoryGateway:
    """What a gateway was told, and what it answers; it outlives its adapters. Any thread may look.

    `outage` makes it unreachable; `refuse` makes it refuse the SNIs and services named there, for the reason given.
    `calls` are the names of the hooks called, in their order.
    """

    def __init__(self) -> None:
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
        self.down = False
        self._changed = threading.Condition(self.lock)

    def adapter_type(self) -> AdapterType:
        """The adapter type of kind `memory` that opens this very gateway."""
        return AdapterType(
            kind="memory",
            role="gateway",
            options=AdapterOptions,
            open=lambda options, context: MemoryGatewayAdapter(self),  # noqa: ARG005 - it needs neither
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

    def ingresses(self, stop: Stop) -> Iterator[Ingress]:
        """Each state of `ingress`, the present one first."""
        told: Ingress | None = None
        stop.on_stop(self._wake)
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

    def route(self, route: ImportRoute) -> ImportAnswer:
        """The egress of one import: a port of its own for each instance."""
        reason = self.refuse.get(route.key.name)
        if reason is None and not route.service.sans:
            reason = "it has no SANs to verify"
        if reason is not None:
            return Refused(reason)
        places = {}
        for instance in route.service.instances:
            port = self.ports.setdefault((route.key, instance.id), FIRST_PORT + len(self.ports))
            places[instance.id] = (Endpoint(address="192.0.2.2", port=port),)
        return Route(endpoints=places, originates_tls=True)


class MemoryGatewayAdapter:
    """The hooks of a `MemoryGateway`."""

    def __init__(self, gateway: MemoryGateway) -> None:
        self._gateway = gateway

    @hookimpl
    def gateway_ingress(self, stop: Stop) -> Iterator[Ingress]:
        """See `GatewaySpec`."""
        return self._gateway.ingresses(stop)

    @hookimpl
    def gateway_trust(self, trust: Trust) -> bool:
        """See `GatewaySpec`."""
        self._gateway.called("gateway_trust")
        self._gateway.trust = trust
        return True

    @hookimpl
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """See `GatewaySpec`."""
        gateway = self._gateway
        gateway.called("gateway_publish")
        refusals = {each.sni: Refused(gateway.refuse[each.sni]) for each in routes if each.sni in gateway.refuse}
        gateway.published = {each.sni: each for each in routes if each.sni not in refusals}
        return refusals

    @hookimpl
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """See `GatewaySpec`."""
        gateway = self._gateway
        gateway.called("gateway_import")
        answers = {route.key: gateway.route(route) for route in routes}
        kept = {key: route for key, route in gateway.imported.items() if keep is None or key in keep}
        led = {route.key: route for route in routes if isinstance(answers[route.key], Route)}
        gateway.imported = {**kept, **led}
        left = {*gateway.imported, *(keep if keep is not None else [key for key, _ in gateway.ports])}
        gateway.ports = {place: port for place, port in gateway.ports.items() if place[0] in left}
        return answers

    @hookimpl
    def gateway_check(self) -> Sequence[Finding]:
        """See `GatewaySpec`."""
        down = self._gateway.down
        return [
            Finding(
                subject="memory",
                severity=Severity.ERROR if down else Severity.OK,
                message="out of reach" if down else "in reach",
            )
        ]

    @hookimpl
    def gateway_close(self) -> None:
        """See `GatewaySpec`."""
        self._gateway.calls.append("gateway_close")
