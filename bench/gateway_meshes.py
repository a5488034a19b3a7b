"""Meshes whose gateways are measured without an agent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.backends.envoy import Mesh


@contextmanager
def mesh(name: str, *, ports: int = 10, ingress: Mapping[str, Any] | None = None) -> Iterator[Mesh]:
    """A mesh with a gateway, its egress with so many ports, in a folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="he-") as folder:
        made = Mesh(name, Path(folder), ports=ports, ingress=ingress or {})
        try:
            yield made
        finally:
            made.close()


def introduce(west: Mesh, east: Mesh) -> None:
    """Have both trust each other."""
    west.trust(east.peer())
    east.trust(west.peer())
