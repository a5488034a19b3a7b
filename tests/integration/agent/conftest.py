"""The two meshes of most tests here, on disk; a test configures them and runs what it needs."""

from __future__ import annotations

import pytest

from tests.support.meshes import Mesh


@pytest.fixture
def west(tmp_path):
    return Mesh(root=tmp_path, name="west")


@pytest.fixture
def east(tmp_path):
    return Mesh(root=tmp_path, name="east")
