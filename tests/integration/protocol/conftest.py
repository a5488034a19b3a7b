from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.meshes import Mesh

MakeMesh = Callable[[str], Mesh]


@pytest.fixture
def make_mesh(tmp_path: Path) -> MakeMesh:
    """Make a mesh with an authority of its own."""
    return lambda name: Mesh(root=tmp_path, name=name)


@pytest.fixture
def west(make_mesh: MakeMesh) -> Mesh:
    """The mesh whose agent is under test."""
    return make_mesh("west")


@pytest.fixture
def east(make_mesh: MakeMesh) -> Mesh:
    """The mesh of another vendor, played by a script."""
    return make_mesh("east")
