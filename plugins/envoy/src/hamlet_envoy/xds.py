"""The words of Envoy's API that ingress and egress share, as JSON: addresses, secrets by file, proxying of bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A message of Envoy's API in its JSON form."""

_GOOGLE = "type.googleapis.com"
_TLS = "envoy.extensions.transport_sockets.tls.v3"
_LEVEL_SOCKET, _KEEPALIVE = 1, 9
_LEVEL_TCP, _KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_PROBES = 6, 4, 5, 6
IDLE, INTERVAL, PROBES = 60, 10, 3
"""TCP keepalive, seconds and number: a connection whose other end is gone ends after a minute and a half."""

BUFFER = 65536
"""Bytes of a connection that Envoy holds while the other end does not take them; its own default is 16 times that."""


def text(content: Json, **parts: str) -> str:
    """The text of what has at least one field. `parts` are further ones, as texts: joined, not made anew."""
    whole = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return ",".join([whole[:-1], *(f'"{name}":{part}' for name, part in parts.items())]) + "}"


def typed(message: str, **fields: Any) -> Json:
    """A message in an `Any`, `message` being its full name."""
    return {"@type": f"{_GOOGLE}/{message}", **fields}


def extension(name: str, message: str, **fields: Any) -> Json:
    """An extension under a name of its own."""
    return {"name": name, "typed_config": typed(message, **fields)}


def address(host: str, port: int) -> Json:
    """An IP address or a name, with its port."""
    return {"socket_address": {"address": host, "port_value": port}}


def bound(host: str, port: int) -> Json:
    """Where to listen. `::` is every address of the host, those of IPv4 too."""
    found = address(host, port)
    if host == "::":
        found["socket_address"]["ipv4_compat"] = True
    return found


def keepalive_options() -> list[Json]:
    """Socket options of a listener, inherited by what it accepts: Linux numbers, which Envoy passes on."""
    pairs = (
        (_LEVEL_SOCKET, _KEEPALIVE, 1),
        (_LEVEL_TCP, _KEEPALIVE_IDLE, IDLE),
        (_LEVEL_TCP, _KEEPALIVE_INTERVAL, INTERVAL),
        (_LEVEL_TCP, _KEEPALIVE_PROBES, PROBES),
    )
    return [{"level": level, "name": name, "int_value": value} for level, name, value in pairs]


def secret_source(name: str, directory: Path) -> Json:
    """Where Envoy finds the secret `name`: a file of that name, which it watches."""
    return {
        "name": name,
        "sds_config": {
            "path_config_source": {"path": f"{directory}/{_secret_file(name)}"},
            "resource_api_version": "V3",
        },
    }


def secret_path(name: str, directory: Path) -> Path:
    """The file of the secret `name`."""
    return directory / _secret_file(name)


def _secret_file(name: str) -> str:
    return f"sds-{name}.json"


def secret(name: str, **content: Any) -> Json:
    """A secret: a certificate with its key, or whom to believe."""
    return typed(f"{_TLS}.Secret", name=name, **content)


def transport(side: str, **fields: Any) -> Json:
    """TLS 1.3 as `side`, `Downstream` or `Upstream`; sessions are never resumed, so each handshake is judged anew."""
    return extension("envoy.transport_sockets.tls", f"{_TLS}.{side}TlsContext", **fields)


def tls_versions() -> Json:
    """TLS 1.3 and nothing else: upstream, the minimum alone does not raise the maximum, which is 1.2 there."""
    return {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}


def tcp_proxy(stat_prefix: str, cluster: str, *, after_handshake: bool) -> Json:
    """Pass bytes on to `cluster`; `after_handshake`: connect to it no sooner than the caller is known.

    Idle connections are not ended (Envoy's own default is an hour): a database's may sleep for days, and
    dead ones are found by keepalive. A connection is tried on up to three endpoints.
    """
    late: Mapping[str, Any] = (
        {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": BUFFER}
        if after_handshake
        else {}
    )
    return extension(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=stat_prefix,
        cluster=cluster,
        idle_timeout="0s",
        max_connect_attempts=3,
        **late,
    )


def short(*parts: str) -> str:
    """A short stable name for what `parts` say."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
