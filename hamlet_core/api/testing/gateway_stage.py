"""What every check of a gateway stands on: the backend, the agents on it, and the routes that they ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import pluggy
import pytest

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    Endpoint,
    FederatedService,
    GatewaySpec,
    ImportRoute,
    Ingress,
    Instance,
    Protocol,
    PublishRoute,
    Route,
    ServicePort,
    Stop,
)
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend
from hamlet_core.api.testing.names import Names
from hamlet_core.api.testing.rules import named, rules_of


class GatewayAgents:
    """Opens gateways as agents do, and closes what a test left open; `key` is theirs in the configuration."""

    def __init__(self, backend: GatewayBackend, directory: Path, names: Names, key: str = "gateway") -> None:
        self._backend = backend
        self._context = AdapterContext(
            name=key,
            mesh=names.mesh,
            domain=names.domain,
            trust_domain=names.trust_domain,
            directory=directory,
        )
        self._open: list[pluggy.HookRelay] = []

    def start(self, *peers: str) -> pluggy.HookRelay:
        """Open an adapter and hand over our certificate and the bundles of these peers; its hooks."""
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(GatewaySpec)
        manager.register(self._backend.open(self._context))
        manager.check_pending()
        self._open.append(manager.hook)
        if peers:
            assert manager.hook.gateway_trust(trust=self._backend.trust(*peers)) is True
        return manager.hook

    def stop(self, agent: pluggy.HookRelay) -> None:
        """Close an adapter."""
        self._open.remove(agent)
        agent.gateway_close()

    def restart(self, agent: pluggy.HookRelay, *peers: str) -> pluggy.HookRelay:
        """Close an adapter and open another for the same agent."""
        self.stop(agent)
        return self.start(*peers)

    def stop_all(self) -> None:
        """Tidy up; what fails keeps nothing else from being closed."""
        with ExitStack() as rest:
            for agent in list(self._open):
                rest.callback(self.stop, agent)


class GatewayStage:
    """The fixtures and settings of the checks; a subclass overrides `backend`, and a setting where it must."""

    deadline = 20.0
    """Seconds after which what must come true is taken not to."""
    stop_deadline = 1.0
    """Seconds a watch has to end, and what it leaves behind to be gone: those of G3. A check fails that found it late
    three times in a row, as a busy machine may be once."""
    names = Names()
    """Who the agents and peers are."""
    stranger = "south"
    """A mesh that nobody here believes."""

    @pytest.fixture
    def backend(self) -> GatewayBackend:
        """Return a gateway that leads nowhere yet; the subclass knows which."""
        message = f"{type(self).__name__} must override the fixture `backend`"
        raise NotImplementedError(message)

    @pytest.fixture(autouse=True)
    def _around(self, backend: GatewayBackend) -> None:
        """Know who registers services and has names, for the routes."""
        self._backend = backend

    @pytest.fixture
    def agents(self, backend: GatewayBackend, tmp_path: Path) -> Iterator[GatewayAgents]:
        """Open adapters on the backend."""
        agents = GatewayAgents(backend, tmp_path, self.names)
        yield agents
        agents.stop_all()

    @pytest.fixture(autouse=True)
    def _rule(self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
        """Put the rule into the report (junit XML) of a check of ours; a plugin's own tests need none."""
        rules = rules_of(GatewaySpec)
        number, _ = named(request.node.name) if request.node.name.startswith("test_g") else ("", "")
        if number in rules:
            record_property("rule", f"{number}. {rules[number].text}")

    def way_in(self, name: str, *endpoints: Endpoint, peers: Collection[str] = ()) -> PublishRoute:
        """A published service, which the mesh knows; for the first peer, unless others are named."""
        fqdn = f"{name}.{self.names.domain}"
        return PublishRoute(
            sni=fqdn,
            fqdn=fqdn,
            registry=self.names.registry,
            service=self._backend.register(name, endpoints),
            port=ServicePort(name="tcp", port=80, protocol=Protocol.TCP),
            endpoints=endpoints,
            peers=tuple(peers) or (self.names.peer,),
        )

    def way_out(
        self, name: str, endpoint: Endpoint, *, sans: Collection[str] | None = None, peer: str = ""
    ) -> ImportRoute:
        """A service of `Names.peer`, or another one, whose ingress is to present what `san` says, or else `sans`."""
        peer = peer or self.names.peer
        fqdn = f"{name}.{peer}.example"
        service = FederatedService(
            name=fqdn,
            fqdn=fqdn,
            endpoints=(endpoint,),
            instances=(Instance(id="tcp", protocol="TCP", metadata={"SNI": fqdn, "PORT": "80"}),),
            sans=tuple(self.san(peer) if sans is None else sans),
        )
        return ImportRoute(peer=peer, service=service)

    def san(self, peer: str) -> tuple[str, ...]:
        """What the ingress of a peer presents, for each of its services; `GatewayBackend.sans` says of what kind."""
        return self._backend.sans(peer)

    def other_san(self, peer: str) -> tuple[str, ...]:
        """What another workload of a peer presents, of the same kind as `san`."""
        return self._backend.sans(peer, "another")

    def lead(self, agent: pluggy.HookRelay, *routes: ImportRoute) -> list[Route]:
        """Ask for ways out and require that there are; in the order of the routes."""
        answers = agent.gateway_import(routes=routes, keep=frozenset())
        found = [answers[each.key] for each in routes]
        assert [each for each in found if not isinstance(each, Route)] == []
        return found

    def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until `check()` is true."""
        end = time.monotonic() + self.deadline
        while not check():
            assert time.monotonic() < end, f"not within {self.deadline:g} s: {what}"
            time.sleep(0.02)


def told_of(agent: pluggy.HookRelay) -> Ingress | None:
    """The first that a gateway says of how the mesh is reached; None for one without an ingress."""
    stop = Stop()
    watch = agent.gateway_ingress(stop=stop)
    try:
        told: Ingress | None = next(watch)
        return told
    finally:
        stop.set()
        watch.close()


def ingress_of(agent: pluggy.HookRelay) -> Ingress:
    """How the mesh is reached now; the gateway under test has an ingress."""
    ingress = told_of(agent)
    assert isinstance(ingress, Ingress), "check a gateway with options that give it an ingress, or EgressContract"
    return ingress


def word(connection: Connection | None) -> str | None:
    """Ask once and hang up; None where there is no connection, or no answer."""
    if connection is None:
        return None
    try:
        return connection.ask()
    finally:
        connection.close()
