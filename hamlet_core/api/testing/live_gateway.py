"""A gateway that no agent leads at the moment, under the checks; afterwards it leads nothing.

Who calls and is called needs a `GatewayBackend`; without one the checks that connect nobody are run, with
certificates of authorities made for the purpose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from hamlet_core.api import AdapterContext, ImportRoute, Ingress, Refused, Route
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend
from hamlet_core.api.testing.gateway_stage import GatewayAgents, GatewayStage, told_of
from hamlet_core.api.testing.gateway_world import GatewayWorld
from hamlet_core.api.testing.live_role import LiveRole, Open, attempt, missing
from hamlet_core.api.testing.names import LIVE_NAMES

Answer = TypeVar("Answer")


class HandlessWorld(GatewayWorld):
    """A world in which nobody stands before the gateway or behind it: routes have addresses, and nobody connects."""

    def __init__(self, opens: Open, folder: Path) -> None:
        super().__init__(folder, LIVE_NAMES.mesh)
        self._opens = opens

    def open(self, context: AdapterContext) -> object:
        """Open the adapter as configured."""
        return self._opens(context)

    def enter(self, ingress: Ingress, sni: str, peer: str | None, *, signed_by: str = "") -> Connection | None:
        """See `GatewayBackend`."""
        del ingress, sni, peer, signed_by
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
    """The gateway that the configuration has at `key`; opened in `directory`, the configuration's folder.

    Its checks are those of the ways in which it leads calls, and the report says which it does not: without an
    ingress it leads out alone, and one that takes no import leads in alone.
    """

    suite = "TestGateway"

    def __init__(self, opens: Open, directory: Path, hands: GatewayBackend | None = None, *, key: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hamlet-verify-")
        self.backend = hands or HandlessWorld(opens, Path(self._folder.name))
        self.directory = directory
        self.key = key

    def agents(self) -> GatewayAgents:
        """Agents that drive it."""
        return GatewayAgents(self.backend, self.directory, LIVE_NAMES, key=self.key)

    def prepare(self) -> Sequence[str]:
        """Ask it which ways it leads."""
        if not _answer(self._leads_in, otherwise=True):
            self.suite = "TestEgress"
            return ["it has no ingress: its checks are those of a gateway that leads calls out alone"]
        if refused := _answer(self._refused, otherwise=""):
            self.suite = "TestIngress"
            return [f"it refuses imports ({refused}): its checks are those of a gateway that leads calls in alone"]
        return ()

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

    def _refused(self) -> str:
        """Why it leads no calls out, or nothing."""
        agents, stage, peer = self.agents(), _Stage(), LIVE_NAMES.peer
        try:
            sans = self.backend.sans(peer)
            route = stage.way_out("stock", self.backend.owner(peer, "stock", sans), sans=sans)
            answers = agents.start(peer).gateway_import(routes=[route], keep=frozenset())
            answer = answers[route.key]
            return answer.reason if isinstance(answer, Refused) else ""
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


def _answer(asks: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What it answers, or this where it raises: the checks of both ways say what is wrong with it."""
    try:
        return asks()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see above
        return otherwise
