"""A gateway that no agent leads at the moment, under the checks; afterwards it leads nothing.

Who calls and is called needs a `GatewayBackend`; without one the checks that connect nobody are run, with
certificates of authorities made for the purpose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path

import pytest

from hamlet_core.api import AdapterContext, ImportRoute, Ingress, Refused, Route
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend
from hamlet_core.api.testing.gateway_stage import GatewayAgents, GatewayStage, told_of
from hamlet_core.api.testing.gateway_world import GatewayWorld
from hamlet_core.api.testing.live_role import LiveRole, Open, attempt, missing
from hamlet_core.api.testing.names import LIVE_NAMES


class Ways(StrEnum):
    """What the configuration wants a gateway for."""

    BOTH = "both"
    IN = "in"
    OUT = "out"


class HandlessWorld(GatewayWorld):
    """A world in which nobody stands before the gateway or behind it: routes have addresses, and nobody connects."""

    def __init__(self, opens: Open, folder: Path) -> None:
        super().__init__(folder, LIVE_NAMES.mesh)
        self._opens = opens

    def open(self, context: AdapterContext) -> object:
        """Open the adapter as configured."""
        return self._opens(context)

    def enter(self, ingress: Ingress, sni: str, peer: str | None) -> Connection | None:
        """See `GatewayBackend`."""
        del ingress, sni, peer
        missing("connects to the ingress")

    def presented(self, ingress: Ingress, sni: str) -> Collection[str]:
        """See `GatewayBackend`."""
        del ingress, sni
        missing("connects to the ingress")

    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """See `GatewayBackend`."""
        del imported, route
        missing("connects to what is imported")

    def outage(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`."""
        missing("makes an outage")


class _Stage(GatewayStage):
    """The routes of the checks."""

    names = LIVE_NAMES


class LiveGateway(LiveRole):
    """The gateway that the configuration has at `key`, for `ways`; opened in `directory`, the configuration's folder.

    Its checks are those of the ways in which it leads calls: a gateway without an ingress is one that leads out
    alone. One that takes no import is one that leads in alone only where nobody wants more of it.
    """

    suite = "TestGateway"

    def __init__(
        self, opens: Open, directory: Path, hands: GatewayBackend | None = None, *, key: str, ways: Ways
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hamlet-verify-")
        self.backend = hands or HandlessWorld(opens, Path(self._folder.name))
        self.directory = directory
        self.key = key
        self._ways = ways

    def agents(self) -> GatewayAgents:
        """Agents that drive it."""
        return GatewayAgents(self.backend, self.directory, LIVE_NAMES, key=self.key)

    def prepare(self) -> None:
        """Ask it which ways it leads."""
        if not _so(self._leads_in):
            self.suite = "TestEgress"
        elif self._ways is Ways.IN and not _so(self._leads_out):
            self.suite = "TestIngress"

    def reach(self) -> None:
        """See `LiveRole`."""
        self._lead_nothing()

    def tidy(self, *, thoroughly: bool = False) -> Iterator[str]:
        """See `LiveRole`."""
        del thoroughly
        yield from attempt(f"routes of the {self.key}", self._lead_nothing)

    def close(self) -> None:
        """See `LiveRole`."""
        try:
            self.backend.close()
        finally:
            self._folder.cleanup()

    def _leads_in(self) -> bool:
        agents = self.agents()
        try:
            return told_of(agents.start(LIVE_NAMES.peer)) is not None
        finally:
            agents.stop_all()

    def _leads_out(self) -> bool:
        agents, stage, peer = self.agents(), _Stage(), LIVE_NAMES.peer
        try:
            sans = self.backend.sans(peer)
            route = stage.way_out("stock", self.backend.owner(peer, "stock", sans), sans=sans)
            answers = agents.start(peer).gateway_import(routes=[route], keep=frozenset())
            return not isinstance(answers[route.key], Refused)
        finally:
            agents.stop_all()

    def _lead_nothing(self) -> None:
        agents = self.agents()
        try:
            try:
                agent = agents.start()
            except pytest.skip.Exception:  # nobody can open one here, so none leads anything
                return
            agent.gateway_trust(trust=self.backend.trust())
            agent.gateway_publish(routes=[])
            agent.gateway_import(routes=[], keep=frozenset())
        finally:
            agents.stop_all()


def _so(asks: Callable[[], bool]) -> bool:
    """What it answers; True where it raises: the checks of both ways say what is wrong with it."""
    try:
        return asks()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see above
        return True
