"""The world of the gateway contract with a real Envoy in its middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from hamlet_envoy.gateway import EnvoyGateway

from hamlet_core.api import AdapterContext, PublishRoute
from hamlet_core.api.testing.gateway_world import GatewayWorld
from tests.backends.envoy import Mesh, wait_for
from tests.support.ports import free_port

PORTS = 20
"""More than a check imports."""


class EnvoyBackend(GatewayWorld):
    """A managed Envoy on loopback, `without` its ingress or egress; `folder` is short enough for a Unix socket."""

    def __init__(self, folder: Path, without: str = "") -> None:
        super().__init__(folder)
        options = Mesh.options(free_port(), free_port(), PORTS, {})
        left_out = {without: None} if without else {}
        self._options = options.model_copy(update={"directory": folder / "envoy", **left_out})
        self._gateway: EnvoyGateway | None = None

    def open(self, context: AdapterContext) -> object:
        """See `GatewayBackend`."""
        self._gateway = EnvoyGateway(self._options, context)
        return self._gateway

    def outage(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`: Envoy is stopped, as one that hangs, and goes on afterwards."""
        return self._stopped()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        assert self._gateway is not None
        assert self._gateway._process is not None
        pid = self._gateway._process.pid
        assert pid is not None, "Envoy does not run"
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            # it answers once it has looked at its files again: what was done meanwhile is in force then
            wait_for(self._gateway._admin.is_live, "answer of Envoy after the outage")

    def spoil(self, route: PublishRoute) -> PublishRoute:
        """See `GatewayBackend`: no client sends a wildcard as a server name."""
        return replace(route, sni=f"*.{route.sni}")
