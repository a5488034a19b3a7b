"""The gateway half of the agent: trust and routes go to the gateway, its answers to who waits for them.

What should be led where is decided by the publication's gate and by the reconcilers; this carries between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress

import structlog

from hamlet_core import backoff
from hamlet_core.api import (
    AdapterError,
    GatewayUnavailable,
    ImportKey,
    ImportRoute,
    Ingress,
    PeerTrust,
    Refused,
    Trust,
)
from hamlet_core.config.model import Config
from hamlet_core.identity.source import IdentitySource
from hamlet_core.identity.spiffe import IdentityError
from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.publish.publication import Publication

log = structlog.get_logger()

RETRY_CAP = 30.0
"""Longest delay, in seconds, before a gateway that was out of reach is asked again."""


class Gateway:
    """Drives the gateway of this mesh: `port` leads calls in, `egress` out (the same one, as a rule).

    Each of two is asked on its own: one that is out of reach holds up nothing of the other.
    `on_ingress` hears how others reach us, `on_published` that something passed the gate, `on_routed` that
    the reconcilers have routes, or that the gateway is back.
    """

    def __init__(
        self,
        port: GatewayPort | None,
        egress: GatewayPort | None,
        publication: Publication,
        trust: Callable[[], Trust],
        *,
        on_ingress: Callable[[Ingress | None], None],
        on_published: Callable[[], None],
        on_routed: Callable[[], None],
    ) -> None:
        self.port = port
        self.egress = egress
        self.ports = tuple(dict.fromkeys(each for each in (port, egress) if each is not None))
        self._publication = publication
        self._trust = trust
        self._on_ingress = on_ingress
        self._on_published = on_published
        self._on_routed = on_routed
        self.reconcilers: tuple[Reconciler, ...] = ()
        self.ingress: Ingress | None = None
        """How other meshes reach us, as the gateway last said; None: not at all."""
        self.heard = False
        """Whether it has said so since the agent started."""
        self.ingress_error = ""
        self.published = 0
        """Routes into this mesh that are in force."""
        self.refused: Mapping[str, str] = {}
        """Routes into this mesh that the gateway will not take: reason by SNI."""
        self.imported = 0
        """Routes out of this mesh that are in force."""
        self._imports_refused: Mapping[ImportKey, str] = {}
        self._done = -1
        self._faults: dict[tuple[GatewayPort, str], str] = {}
        self._trust_due = set(self.ports)
        self._handed: dict[GatewayPort, Trust] = {}
        self._wakes = {each: asyncio.Event() for each in self.ports}
        self._backs = {each: asyncio.Event() for each in self.ports}
        self._turns = {each: asyncio.Lock() for each in self.ports}

    @property
    def error(self) -> str:
        """Why one of the gateways takes nothing now, or an empty string."""
        return next(iter(self._faults.values()), "")

    def error_of(self, port: GatewayPort) -> str:
        """Why `port`, one of `ports`, takes nothing now or does not say how it is reached; or an empty string."""
        own = (fault for (failed, _), fault in self._faults.items() if failed is port)
        return next(own, self.ingress_error if port is self.port else "")

    def wake(self) -> None:
        """Something that is published may have changed."""
        for event in self._wakes.values():
            event.set()

    def trust_changed(self) -> None:
        """Our certificate, a bundle, or who is a peer may have changed."""
        self._trust_due.update(self.ports)
        for event in (*self._wakes.values(), *self._backs.values()):
            event.set()

    async def follow_ingress(self) -> None:
        """Watch for ever how other meshes reach us; what was last said holds while nothing is heard."""
        attempt, port = 0, self.port
        while port is not None:
            try:
                async with aclosing(port.ingress()) as found:
                    async for ingress in found:
                        if self.ingress_error:
                            self._backs[port].set()
                        attempt, self.ingress_error = 0, ""
                        changed, self.heard = ingress != self.ingress or not self.heard, True
                        if changed:
                            places = [
                                f"{each.address}:{each.port}" for each in (ingress.endpoints if ingress else ())
                            ]
                            log.info("peers reach us", gateway=port.kind, endpoints=places)
                            self.ingress = ingress
                            self._on_ingress(ingress)
                        self.wake()
            except (GatewayUnavailable, AdapterError) as error:
                seconds = backoff.delay(attempt, RETRY_CAP)
                attempt += 1
                if str(error) != self.ingress_error:
                    log.warning("the gateway does not say how it is reached", error=str(error))
                    self.ingress_error = str(error)
                await asyncio.sleep(seconds)
            else:
                return

    async def follow_egress(self) -> None:
        """Watch for ever whether an egress of its own is there; what it says of an ingress means nothing."""
        attempt, port = 0, self.egress
        while port is not None and port is not self.port:
            try:
                async with aclosing(port.ingress()) as found:
                    async for _ in found:
                        attempt = 0
                        self._well(port, "watch")
            except (GatewayUnavailable, AdapterError) as error:
                self._failed(port, "watch", str(error))
                await asyncio.sleep(backoff.delay(attempt, RETRY_CAP))
                attempt += 1
            else:
                return

    async def run(self, port: GatewayPort) -> None:
        """Keep trust and the routes into this mesh as they should be at `port`, one of `ports`; for ever."""
        attempt, wake, back = 0, self._wakes[port], self._backs[port]
        while True:
            wake.clear()
            back.clear()
            try:
                async with self._turns[port]:
                    await self._hand_over_trust(port)
                    if port is self.port:
                        await self._publish(port)
            except (GatewayUnavailable, AdapterError, IdentityError) as error:
                self._failed(port, "in", str(error))
                seconds = backoff.delay(attempt, RETRY_CAP)
                attempt += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await back.wait()
                continue
            attempt = 0
            self._well(port, "in")
            await wake.wait()

    async def route(self) -> None:
        """Ask for the routes of all imports, where one is due, and tell every reconciler what the gateway says.

        Raises `GatewayUnavailable` or `AdapterError`; the reconcilers will then ask again.
        """
        port = self.egress
        assert port is not None, "imports that need no route ask for none"
        async with self._turns[port]:
            if not any(each.routes_due for each in self.reconcilers):
                return  # who had the turn before asked for all
            asking = [(each, each.to_route()) for each in self.reconcilers]
            asked: dict[ImportKey, ImportRoute] = {}
            keep: set[ImportKey] | None = set()
            for _, wanted in asking:
                if wanted is None:
                    keep = None  # what stands in that registry is not known yet
                    continue
                asked |= wanted[0]
                keep = None if keep is None else keep | wanted[1]
            try:
                await self._hand_over_trust(port)
                answers = await port.routes(
                    tuple(asked.values()), None if keep is None else frozenset(keep - asked.keys())
                )
            except BaseException as error:  # whatever it was: who is not told to would never ask again
                for reconciler, _ in asking:
                    reconciler.not_routed()
                if isinstance(error, GatewayUnavailable | AdapterError | IdentityError):
                    self._failed(port, "out", str(error))
                if isinstance(error, IdentityError):
                    raise GatewayUnavailable(str(error), mend=error.mend) from error
                raise
            refused = {key: each.reason for key, each in answers.items() if isinstance(each, Refused)}
            self.imported = len(answers) - len(refused)
            for reconciler, wanted in asking:
                if wanted is not None:
                    reconciler.routed({key: asked[key] for key in wanted[0]}, answers)
        for key, reason in refused.items():
            if self._imports_refused.get(key) != reason:
                log.warning("the gateway refuses an import", peer=key.peer, service=key.name, reason=reason)
        self._imports_refused = refused
        self._well(port, "out")
        self._on_routed()

    async def _hand_over_trust(self, port: GatewayPort) -> None:
        """When this returns, `port` has the trust of now: what becomes of it while it is told is told as well."""
        while port in self._trust_due:
            self._trust_due.discard(port)
            try:
                trust = self._trust()
                if trust != self._handed.pop(port, None):
                    await port.trust(trust)
                    log.info("the gateway has our certificate and bundles", peers=[each.peer for each in trust.peers])
                self._handed[port] = trust
            except BaseException:
                self._trust_due.add(port)
                raise

    async def _publish(self, port: GatewayPort) -> None:
        gate = self._publication.gate
        # Before all registries have reported, what they publish would be taken for gone.
        ready = self._publication.complete and self.heard
        if not ready or gate.version == self._done:
            return
        version, routes = gate.version, gate.wanted()
        refusals = await port.publish(routes)
        gate.settle(routes, refusals)
        self._done = version
        self.published = len(routes) - len(refusals)
        for sni, refused in refusals.items():
            if self.refused.get(sni) != refused.reason:
                log.warning("the gateway refuses a route", sni=sni, reason=refused.reason)
        self.refused = {sni: refused.reason for sni, refused in refusals.items()}
        self._on_published()
        if gate.version != version:
            self.wake()

    def _failed(self, port: GatewayPort, way: str, reason: str) -> None:
        if reason != self._faults.get((port, way)):
            log.warning("the gateway takes nothing; what it does now stays", error=reason)
            self._faults[port, way] = reason

    def _well(self, port: GatewayPort, way: str) -> None:
        if self._faults.pop((port, way), ""):
            log.info("the gateway takes routes again", gateway=port.kind)
            self._backs[port].set()
            self._on_routed()


def trust_of(identity: IdentitySource, config: Config) -> Trust:
    """Our certificate and each peer's bundle; a peer whose bundle was never readable is left out.

    Raises `IdentityError` while we have no certificate.
    """
    own = identity.credentials
    peers = []
    for name in config.peers:
        with suppress(IdentityError):  # it is told where its file is read
            peers.append(
                PeerTrust(
                    peer=name,
                    trust_domain=config.peers[name].trust_domain,
                    bundle=identity.bundle(name).pem.decode(),
                )
            )
    return Trust(certificate=own.certificate_pem.decode(), key=own.key_pem.decode(), peers=tuple(peers))
