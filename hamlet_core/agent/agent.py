"""The agent: one mesh's end of the federation, from its configuration to its running parts.

It opens the registries, serves and dials the peers, and takes over a changed configuration without
dropping a stream that the change does not concern.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import grpc
import structlog

from hamlet_core.agent.fixed import refuse_fixed, rotated, with_fixed
from hamlet_core.agent.gateway import Gateway, trust_of
from hamlet_core.agent.importer import Importer, Lane
from hamlet_core.agent.publisher import Publisher
from hamlet_core.agent.supervise import Supervisor
from hamlet_core.api import Batch, ConfigError, Ingress, Snapshot
from hamlet_core.config.driven import Egress
from hamlet_core.config.driven import Gateway as GatewaySettings
from hamlet_core.config.load import Loaded
from hamlet_core.config.model import Peer
from hamlet_core.identity.source import IdentitySource
from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.plugins import loader
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.opening import open_gateway, open_registry
from hamlet_core.plugins.options import adapter_options
from hamlet_core.plugins.registry_port import RegistryPort
from hamlet_core.publish.catalog import Catalog, Payload, Subscription
from hamlet_core.publish.policy import Policy
from hamlet_core.publish.publication import Publication
from hamlet_core.rpc.link import Link
from hamlet_core.rpc.peering import Peering
from hamlet_core.rpc.server import CODECS, FederationServer

log = structlog.get_logger()

DRAIN = 2.0
"""Seconds that streams get to end when the agent stops."""
LOOK_AT_CLOCK = 60.0
"""At most so many seconds pass between two looks at the clock for rules that begin or end: it may be set."""
VERDICT_KEYS = ("accept", "allow_endpoints", "import_into", "max_services", "max_message_bytes")
"""The settings that decide what is refused: changed, the catalog is walked anew, and the owner hears of it."""
LINK_KEYS = (
    "address", "bundle", "trust_domain", "spiffe_id", "dns_name", "fingerprint", "api", "context", "quiet",
    "ack_timeout", "backoff_cap",
)  # fmt: skip
"""The settings of a peer that a standing stream was made with."""
RELINK_KEYS = (*LINK_KEYS, *VERDICT_KEYS)
"""The settings of a peer whose change ends its streams and dials anew."""


class Agent:
    """Everything that runs for one configuration. `start` it once, `stop` it once."""

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        moment = datetime.now(UTC)
        self.loaded = loaded
        """What was read when the configuration was last taken over."""
        self.config = config
        """The configuration in force: of what only a restart can change, as this agent began."""
        self.started = moment
        self.supervisor = Supervisor()
        self.identity = IdentitySource(config.identity, config.peers)
        packers = {codec.api: codec.pack for codec in CODECS}
        self.catalog = Catalog(lambda service: Payload(**{api: pack(service) for api, pack in packers.items()}))
        self.publication = Publication(Policy.of(config), self.catalog, moment)
        adapter_options(loaded)  # all that is wrong with them, with file and line, before anything is opened
        kinds = {registry.kind for registry in config.registries.values()}
        gateways = {each.kind for each in (config.way_in, config.way_out) if each is not None}
        self.plugins = loader.load(kinds, config.plugins, gateways=gateways)
        self.ports = {name: self._open(name) for name in config.registries}
        self.gateway = self._open_gateways() if gateways else None
        lanes = {name: Lane(port, Reconciler(name, config), self.gateway) for name, port in self.ports.items()}
        self.importer = Importer(config, tuple(lanes.values()))
        if self.gateway is not None:
            self.gateway.reconcilers = tuple(lane.reconciler for lane in lanes.values())
        self.publishers = {
            name: Publisher(port, self.publication, partial(self._reported, lanes[name]))
            for name, port in self.ports.items()
        }
        self.peerings: dict[str, Peering] = {}
        self.links: dict[str, Link] = {}
        self._material: dict[str, object] = {}  # what each peer was last known by, for `certificates_changed`
        self.refused = 0
        """Callers turned away because no peer's bundle vouches for them."""
        self.last_refusal = ""
        self.last_refusal_at: datetime | None = None
        self.left: set[str] = set()
        """Peers of the configuration in force that an operator has left: nothing is exchanged with them."""
        self._subscriptions: dict[str, set[Subscription]] = {}
        self.server: FederationServer | None = None
        self._ready = asyncio.Event()
        self._names_told = False
        self._boundary = asyncio.Event()
        self._changing = asyncio.Lock()  # one change of the peers at a time: it has pauses

    @property
    def rotated(self) -> list[str]:
        """The keys whose reference gives another value by now than the one that is in use."""
        return rotated(self.config, self.loaded.config)

    def _open(self, name: str) -> RegistryPort:
        with self._located(f"registries.{name}"):
            return open_registry(name, self.config.registries[name], self.plugins, self.loaded.context(name))

    def _open_gateways(self) -> Gateway:
        opened: dict[str, GatewayPort] = {}
        configured: dict[str, GatewaySettings | Egress | None] = {
            "gateway": self.config.way_in,
            "egress": self.config.egress,
        }
        for key, settings in configured.items():
            if settings is not None:
                with self._located(key):
                    opened[key] = open_gateway(key, settings, self.plugins, self.loaded.context(key))
        port = opened.get("gateway")
        return Gateway(
            port,
            opened.get("egress", port),
            self.publication,
            lambda: trust_of(self.identity, self.config),
            on_ingress=self._reached_through,
            on_published=self._published,
            on_routed=self._routed,
        )

    @contextmanager
    def _located(self, key: str) -> Iterator[None]:
        """Add the file and line of `key` to what is wrong with it."""
        try:
            yield
        except ConfigError as error:
            if error.where:
                raise
            raise ConfigError(str(error), where=self.loaded.locate(key), mend=error.mend) from error

    @property
    def not_ready(self) -> str:
        """Why the agent neither serves nor dials yet, or an empty string."""
        silent = [name for name, publisher in self.publishers.items() if not publisher.reported]
        if silent:
            return f"waiting for the first report of registry {', '.join(silent)}"
        if self.publication.ready or self.gateway is None:
            return ""
        reason = self.gateway.error or self.gateway.ingress_error or "it has not answered yet"
        return f"waiting for the gateway: {reason}"

    async def start(self) -> None:
        """Start every part; raises `HamletError` when the port cannot be had or our certificate is unusable.

        After an error too, `stop` is to be called.
        """
        self.identity.credentials  # noqa: B018 - an agent without a certificate must not start
        config = self.config
        self.server = FederationServer(config.listen, self.identity, self.importer, self.peerings.get, self._refused)
        for name, peer in config.peers.items():
            self._add_peer(name, peer)
        self._material = {name: self.identity.material(name) for name in self.links}
        await self.server.start()
        log.info("serving peers", listen=config.listen, port=self.server.port, mesh=config.mesh.name)
        for name, publisher in self.publishers.items():
            self.supervisor.start(f"watch {name}", publisher.run)
        for lane in self.importer.lanes:
            self.supervisor.start(f"imports {lane.port.name}", lane.run)
        if self.gateway is not None:
            for gateway in self.gateway.ports:
                self.supervisor.start(gateway.title, partial(self.gateway.run, gateway))
            self.supervisor.start("ingress", self.gateway.follow_ingress)
            self.supervisor.start("egress", self.gateway.follow_egress)
        self.supervisor.start("certificates", lambda: self.identity.watch(self.certificates_changed))
        self.supervisor.start("rule times", self._follow_rule_times)

    async def stop(self) -> None:
        """Drain and stop: peers keep what they have of us, and we keep what we have of them."""
        log.info("stopping")
        self.importer.stopping = True
        for peering in self.peerings.values():
            peering.close(grpc.StatusCode.UNAVAILABLE, "the agent of this mesh is stopping")
        if self.server is not None:
            await self.server.stop(DRAIN)
        await self.supervisor.stop_all()
        await asyncio.gather(*(port.close() for port in self.ports.values()))
        if self.gateway is not None:
            await asyncio.gather(*(port.close() for port in self.gateway.ports))
        log.info("stopped")

    # --- peers -----------------------------------------------------------------------------------

    def _add_peer(self, name: str, peer: Peer) -> None:
        ours, theirs = self.config.mesh.trust_domain, peer.trust_domain
        peering = Peering(
            name,
            peer,
            self.importer,
            subscription=self._subscribe,
            dials_first=theirs is None or peer.api == "v1alpha1" or ours < theirs,
        )
        link = Link(peering, self.identity, self.importer)
        self.peerings[name], self.links[name] = peering, link
        self.left.discard(name)

        async def dial() -> None:
            await self._ready.wait()
            await link.run()

        self.supervisor.start(f"link {name}", dial)

    async def _remove_peer(self, name: str, code: grpc.StatusCode, reason: str) -> None:
        """Forget a peer; when this returns nothing more comes from its streams."""
        peering = self.peerings.pop(name)
        del self.links[name]
        peering.close(code, reason)
        await self.supervisor.stop(f"link {name}")
        try:
            async with asyncio.timeout(DRAIN):
                await peering.drained()
        except TimeoutError:
            log.error("streams of a removed peer do not end", peer=name, streams=len(peering.streams))

    def _subscribe(self, peer: str) -> Subscription | None:
        if not self.publication.ready:
            return None
        return self.catalog.subscribe(self.publication.audience(peer))

    def _refused(self, reason: str) -> None:
        self.refused += 1
        self.last_refusal, self.last_refusal_at = reason, datetime.now(UTC)
        log.warning("caller refused", reason=reason)

    def certificates_changed(self, *, reloaded: bool = False) -> None:
        """Certificates or bundles are new: end the streams whose trust is gone, dial again where it may be back.

        That is where our certificate or the peer's bundle is another than before, or after a reload everywhere.
        """
        moment = datetime.now(UTC)
        before, self._material = self._material, {name: self.identity.material(name) for name in self.links}
        if self.gateway is not None:
            self.gateway.trust_changed()
        if self.server is not None:
            self.server.recheck(moment)
        for name, link in list(self.links.items()):
            if link.tunnel is not None:
                link.tunnel.recheck(moment)
            if reloaded or before.get(name) != self._material[name]:
                link.try_again()

    # --- publishing ------------------------------------------------------------------------------

    def _reported(self, lane: Lane, batch: Batch, names_changed: bool) -> None:
        if isinstance(batch, Snapshot):
            lane.look_again()  # the watch had lost the registry: writes may have been lost with it
        # Before every registry has reported, names are missing, and an import could take one of those.
        if self.publication.complete and (names_changed or not self._names_told):
            self.importer.set_local_names(frozenset(self.publication.local_names()))
            self._names_told = True
        self._published()
        if self.gateway is not None:
            self.gateway.wake()

    def _published(self) -> None:
        if self.publication.ready:
            self._ready.set()

    def _reached_through(self, ingress: Ingress | None) -> None:
        """The gateway said how other meshes reach us: it is part of what is published."""
        self._set_policy(Policy.of(self.config, ingress))

    def _routed(self) -> None:
        self.importer.routed()

    def _set_policy(self, policy: Policy) -> None:
        changed = self.publication.set_policy(policy, datetime.now(UTC))
        if changed and self._names_told:
            self.importer.set_local_names(frozenset(self.publication.local_names()))
        for name, peering in self.peerings.items():
            if name in self.config.peers:
                peering.update(self.config.peers[name], self.publication.audience(name))
        if self.gateway is not None:
            self.gateway.wake()

    async def _follow_rule_times(self) -> None:
        while True:
            self._boundary.clear()
            moment = datetime.now(UTC)
            self.publication.tick(moment)
            if self.gateway is not None:
                self.gateway.wake()
            boundary = self.publication.next_boundary(moment)
            wait = LOOK_AT_CLOCK if boundary is None else (boundary - moment).total_seconds()
            try:
                async with asyncio.timeout(min(max(0.0, wait), LOOK_AT_CLOCK)):
                    await self._boundary.wait()
            except TimeoutError:
                continue

    # --- a changed configuration -----------------------------------------------------------------

    async def reload(self, loaded: Loaded) -> None:
        """Take over a configuration; what it does not change goes on undisturbed.

        Raises `HamletError`, and changes nothing, where it changes what only a restart can: our mesh, our
        addresses, the registries and plugins. A reference that gives another value there is no such change: it is
        among `rotated` until the restart.
        """
        async with self._changing:
            await self._take_over(loaded)

    async def _take_over(self, loaded: Loaded) -> None:
        old = self.config
        refuse_fixed(old, loaded.config)
        if rotated(old, loaded.config):
            adapter_options(loaded)  # a value that the next start would refuse is told now
        new = with_fixed(old, loaded.config)
        self.identity.configure(new.identity, new.peers)
        self.loaded, self.config = loaded, new
        self.left &= new.peers.keys()
        if self.gateway is not None:
            self.gateway.trust_changed()  # before any route for a new peer is wanted
        policy = Policy.of(new, self.gateway.ingress if self.gateway is not None else None)
        if self.publication.set_policy(policy, datetime.now(UTC)) and self._names_told:
            self.importer.set_local_names(frozenset(self.publication.local_names()))
        walk_anew = self.importer.configure(new)
        for name in [name for name in self.peerings if name not in new.peers]:
            await self._remove_peer(name, grpc.StatusCode.UNAUTHENTICATED, "this mesh no longer has you as its peer")
        for name, peer in new.peers.items():
            if name not in self.peerings:
                self._add_peer(name, peer)
            elif name in walk_anew or any(getattr(peer, key) != getattr(old.peers[name], key) for key in RELINK_KEYS):
                await self._remove_peer(name, grpc.StatusCode.UNAVAILABLE, "the settings of this link have changed")
                self._add_peer(name, peer)
            else:
                self.peerings[name].update(peer, self.publication.audience(name))
        self.certificates_changed(reloaded=True)
        self._boundary.set()
        log.info("configuration taken over", path=str(loaded.path))

    async def leave(self, peer: str) -> None:
        """Withdraw what came from `peer` and forget it."""
        async with self._changing:
            if peer in self.peerings:
                reason = "this mesh has left the federation with you"
                await self._remove_peer(peer, grpc.StatusCode.UNAUTHENTICATED, reason)
                self.left.add(peer)
            self.importer.leave(peer)
