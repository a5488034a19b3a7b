"""Who calls and is called through an Envoy, for `hamlet verify-adapter`: an Envoy of the checks' own, on loopback.

It is started with the program and the settings of the options, but in a folder and at addresses of its own: the real
gateway's imports keep the ports that it has given them, and nobody else calls through it. An agent never imports this
module.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from hamlet_core.api import AdapterContext, ConfigError, PublishRoute
from hamlet_core.api.testing import LIVE_NAMES, GatewayWorld
from hamlet_envoy.gateway import EnvoyGateway
from hamlet_envoy.options import EnvoyOptions

LOOPBACK = "127.0.0.1"
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT, _FIRST_OUTGOING = 10_240, 32_768
"""The first port that is considered, and where the kernel does not say it, Linux's first for outgoing connections."""


class EnvoyBackend(GatewayWorld):
    """A managed Envoy on loopback, and the world around it."""

    def __init__(self, options: EnvoyOptions, own: str = LIVE_NAMES.mesh) -> None:
        # Short: a Unix socket is in it.
        self._place = tempfile.TemporaryDirectory(prefix="hamlet-envoy-")
        super().__init__(Path(self._place.name), own)
        self._options = _apart(options, Path(self._place.name) / "envoy")
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
        gateway = self._gateway
        pid = gateway._process.pid if gateway and gateway._process else None  # noqa: SLF001 - its own package's
        if gateway is None or pid is None:
            message = "Envoy does not run, and cannot be stopped for an outage"
            raise RuntimeError(message)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            # It answers once it has looked at its files again: what was done meanwhile is in force then.
            end = time.monotonic() + self._options.timeout.total_seconds()
            while not gateway._admin.is_live():  # noqa: SLF001
                if time.monotonic() > end:
                    message = f"Envoy has not answered for {self._options.timeout} since the outage ended"
                    raise RuntimeError(message)
                time.sleep(0.05)

    def spoil(self, route: PublishRoute) -> PublishRoute:
        """See `GatewayBackend`: no client sends a wildcard as a server name."""
        return replace(route, sni=f"*.{route.sni}")

    def close(self) -> None:
        """See `GatewayBackend`."""
        super().close()
        self._place.cleanup()


def gateway(options: EnvoyOptions) -> EnvoyBackend:
    """What is around an Envoy of these options. Raises `ConfigError` for one that Hamlet does not start."""
    if not options.manage:
        message = "with `manage: false` there is no telling how to start an Envoy for the checks"
        raise ConfigError(message, mend="verify with a configuration that has `manage: true`")
    return EnvoyBackend(options)


def _apart(options: EnvoyOptions, directory: Path) -> EnvoyOptions:
    """The options of an Envoy beside the configured one: its certificate is the mesh's, which the checks give it."""
    sides: dict[str, object] = {}
    if options.ingress is not None:
        place = f"{LOOPBACK}:{_free_port()}"
        apart = {"listen": place, "advertise": (place,), "certificate": None, "key": None, "sans": ()}
        sides["ingress"] = options.ingress.model_copy(update=apart)
    if options.egress is not None:
        sides["egress"] = options.egress.model_copy(update={"bind": LOOPBACK, "advertise": LOOPBACK})
    return options.model_copy(update={"directory": directory, "admin": None, **sides})


def _free_port() -> int:
    """A port of loopback that is free now, and, where there is one, none that a connection may begin at meanwhile."""
    try:
        end = int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError):
        end = _FIRST_OUTGOING
    apart = range(_FIRST_PORT, max(end, _FIRST_PORT))
    for port in random.sample(apart, len(apart)):
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])
