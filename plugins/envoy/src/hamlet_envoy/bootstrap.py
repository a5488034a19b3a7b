"""How Envoy is started: its first file, and its command line. It decides only."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from hamlet_core.api import ConfigError
from hamlet_envoy import xds
from hamlet_envoy.options import Address, EnvoyOptions, parse_address
from hamlet_envoy.xds import Json

FILE, CLUSTERS, LISTENERS, LOG = "bootstrap.json", "cds.json", "lds.json", "envoy.log"
"""The files in the gateway's directory: the first one, those watched, and the log of a managed Envoy."""
_COUNTED = (
    r"(cluster_manager|listener_manager|sds|server|main_thread|filesystem|tcp)\..*",
    r"cluster\..*\.(membership_(total|healthy)|outlier_detection\.ejections_active)",
    r"cluster\..*\.upstream_cx_(total|active|connect_fail|connect_timeout|none_healthy|[rt]x_bytes_total)",
    r"listener\..*\.(downstream_cx_(total|active)|no_filter_chain_match)",
    r"(cluster|listener)\..*\.ssl\.(handshake|connection_error|no_certificate|fail_verify_.*)",
)
"""The statistics that are kept: of the hundreds that Envoy has for each service most are about HTTP, and looking
through all of them takes longer than a change does."""
_LONGEST_SOCKET = 107
"""Linux: the longest path of a Unix socket, in bytes."""


def admin_place(options: EnvoyOptions, directory: Path) -> Path | Address:
    """Where the admin interface is. Raises `ConfigError` for a socket's path that the kernel would not take."""
    if options.admin is not None:
        return parse_address(options.admin)
    path = directory / "admin.sock"
    if len(str(path).encode()) > _LONGEST_SOCKET:
        message = f"gateway: the path {path} is too long for a Unix socket ({_LONGEST_SOCKET} bytes)"
        raise ConfigError(message, mend="choose a shorter `directory`, or set `admin: 127.0.0.1:<port>`")
    return path


def bootstrap(mesh: str, place: Path | Address, directory: Path) -> Json:
    """The content of the first file: who it is, its admin interface, and the two files it watches."""
    admin = (
        {"pipe": {"path": str(place), "mode": 0o600}}
        if isinstance(place, Path)
        else xds.address(place.host, place.port)
    )

    def watched(name: str) -> Json:
        return {"path_config_source": {"path": str(directory / name)}, "resource_api_version": "V3"}

    return {
        "node": {"id": f"hamlet-{mesh}", "cluster": "hamlet"},
        "admin": {"address": admin},
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"safe_regex": {"regex": pattern}} for pattern in _COUNTED]}
            }
        },
        "dynamic_resources": {"cds_config": watched(CLUSTERS), "lds_config": watched(LISTENERS)},
    }


def arguments(options: EnvoyOptions, directory: Path) -> tuple[str, ...]:
    """What Envoy is started with.

    Unknown fields are errors rather than ignored, and connections of what has gone end when `drain` is over.
    """
    return (
        "--config-path", str(directory / FILE),
        "--reject-unknown-dynamic-fields",
        "--disable-hot-restart",
        "--drain-time-s", str(max(1, round(options.drain.total_seconds()))),
        "--drain-strategy", "immediate",
        "--log-level", options.log_level,
        *(("--concurrency", str(options.threads)) if options.threads else ()),
    )  # fmt: skip


def find_binary(options: EnvoyOptions, directory: Path) -> Path | None:
    """The program that is started: the configured one, the bundled one, or `envoy` in PATH; None without any."""
    if options.binary is not None:
        path = directory / options.binary
        return path if path.is_file() else None
    bundled = importlib.util.find_spec("envoy")
    if bundled is not None and bundled.origin is not None:
        path = Path(bundled.origin).parent / "_bin" / "envoy"
        if path.is_file():
            return path
    found = shutil.which("envoy")
    return Path(found) if found else None
