"""Envoy's admin interface, over a Unix socket or loopback: what it runs, and what became of the files it watches."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hamlet_core.api import GatewayUnavailable
from hamlet_envoy.options import Address

_TIMEOUT = 5.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(str(self._path))


class Admin:
    """The admin interface at `place`. Methods raise `GatewayUnavailable` when it does not answer."""

    def __init__(self, place: Path | Address) -> None:
        self.place = place

    def __str__(self) -> str:
        return str(self.place) if isinstance(self.place, Path) else f"{self.place.host}:{self.place.port}"

    def is_live(self) -> bool:
        """Whether Envoy has read its first configuration and serves."""
        try:
            return self._get("/ready").strip() == "LIVE"
        except GatewayUnavailable:
            return False

    def version(self) -> str:
        """The version of the running Envoy, for example `1.40.0`."""
        said: dict[str, Any] = json.loads(self._get("/server_info"))
        return version_in(str(said.get("version", "")))

    def stats(self, pattern: str, kind: str) -> dict[str, str]:
        """The statistics whose whole name fits the regular expression `pattern`; texts without their quotes.

        `kind` is `TextReadouts`, `Counters` or `Gauges`: Envoy's main thread looks through all of a kind to answer,
        and texts are few.
        """
        found = self._get(f"/stats?type={kind}&filter={quote(f'^({pattern})$')}")
        lines = (line.partition(": ") for line in found.splitlines())
        return {name: value.strip('"') for name, _, value in lines}

    def _get(self, path: str) -> str:
        if isinstance(self.place, Path):
            connection: http.client.HTTPConnection = _UnixConnection(self.place)
        else:
            connection = http.client.HTTPConnection(self.place.host, self.place.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            message = f"Envoy does not answer at its admin interface {self}: {error}"
            raise GatewayUnavailable(message, mend="see that Envoy runs; its log says why it does not") from error
        finally:
            connection.close()
        return body


def version_in(text: str) -> str:
    """The first version number in what Envoy says of itself, or an empty text."""
    found = re.search(r"\b(\d+\.\d+\.\d+)\b", text)
    return found[1] if found else ""
