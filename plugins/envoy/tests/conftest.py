"""Meshes with a real Envoy each, and servers for them to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backends.envoy import Mesh, Server, short_folder


@pytest.fixture
def make_mesh() -> Iterator[Callable[..., Mesh]]:
    with ExitStack() as stack:

        def make(name: str, **more: Any) -> Mesh:
            mesh = Mesh(name, stack.enter_context(short_folder()), **more)
            stack.callback(mesh.close)
            return mesh

        yield make


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def make(name: str = "", greeting: bytes = b"") -> Server:
            made = Server(name, greeting)
            stack.callback(made.close)
            return made

        yield make
