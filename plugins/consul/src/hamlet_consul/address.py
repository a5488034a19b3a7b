"""The forms that the address of an agent of Consul may have."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from hamlet_core.api import ConfigError


def parse_address(address: str) -> tuple[str, str, int, str]:
    """Divide an address into scheme, host (IPv6 in brackets), port and, for a Unix socket, its path.

    Raises `ConfigError` for one that is neither http, https nor unix, or that has more than host and port.
    """
    parts = urlsplit(address)
    mend = "write http://host:8500, https://host:8501 or unix:///run/consul/http.sock"
    if parts.scheme == "unix":
        path = unquote(parts.netloc + parts.path)
        if path.startswith("/") and len(path) > 1:
            return "http", "localhost", 80, path
    elif parts.scheme in ("http", "https"):
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            message = f"address {address!r}: {error}"
            raise ConfigError(message, mend=mend) from error
        if host and not parts.path.strip("/") and not parts.query and not parts.username:
            shown = f"[{host}]" if ":" in host else host
            return parts.scheme, shown, port or (8501 if parts.scheme == "https" else 8500), ""
    message = f"address {address!r} is no address of a Consul agent"
    raise ConfigError(message, mend=mend)
