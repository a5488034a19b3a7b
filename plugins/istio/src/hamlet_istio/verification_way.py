"""A way to the API server that can be cut, for what `hamlet verify-adapter` opens: the server itself notices nothing.

No agent imports this module; it needs pytest.
"""

from __future__ import annotations

import functools
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from kubernetes.client import Configuration
from kubernetes.client.rest import should_bypass_proxies

from hamlet_core.api import ConfigError
from hamlet_core.api.testing import Relay
from hamlet_istio.access import ClusterOptions
from hamlet_istio.connection import Connect, Connection

_PORTS = {"http": 80, "https": 443}


class RelayedConnection(Connection):
    """The API server as these options reach it, by a relay that stands before it, or before the proxy on the way.

    Its certificate is verified for the name that it has, and the credentials are those of the options.
    """

    def __init__(self, options: ClusterOptions, directory: Path, *, relay: Relay) -> None:
        super().__init__(options, directory)
        self._relay = relay

    def settings(self) -> Configuration:
        """See `Connection`; the first hop is the relay."""
        settings = super().settings()
        given = settings.refresh_api_key_hook
        self._lead(settings)

        def refresh(settings: Configuration) -> None:
            """A kubeconfig is taken over as a whole when credentials are asked for, with its server and this hook."""
            if given is not None:
                given(settings)
                settings.refresh_api_key_hook = refresh
                self._lead(settings)

        settings.refresh_api_key_hook = refresh  # type: ignore[assignment]
        return settings

    def _lead(self, settings: Configuration) -> None:
        """Put the relay before what these settings call first; it may be there already."""
        if _proxy(settings) is not None:
            settings.proxy = f"http://{self._relay.address}"
            settings.no_proxy = None
            return
        url = urlsplit(settings.host)
        settings.tls_server_name = settings.tls_server_name or url.hostname
        settings.host = url._replace(netloc=self._relay.address).geturl()
        settings.proxy = None


def relay_to(options: ClusterOptions) -> Relay:
    """A relay to the first hop of these options. Raises `ConfigError` where none can stand there."""
    settings = Connection(options, Path()).settings()
    hop = _proxy(settings) or urlsplit(settings.host)
    assert hop.hostname is not None
    return Relay(hop.hostname, hop.port or _PORTS[hop.scheme])


def connect_by(relay: Relay) -> Connect:
    """What connects by this relay."""
    return functools.partial(RelayedConnection, relay=relay)


def _proxy(settings: Configuration) -> SplitResult | None:
    """The proxy that leads to the server of these settings, if one does."""
    if not settings.proxy or should_bypass_proxies(settings.host, settings.no_proxy or ""):
        return None
    proxy = urlsplit(settings.proxy)
    if proxy.scheme != "http" or not proxy.hostname:
        message = f"no outage can be made behind a proxy that is reached by {proxy.scheme}"
        raise ConfigError(message, mend="verify from a place that needs no such proxy, or with --no-backend")
    return proxy
