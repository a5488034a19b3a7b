"""The two meshes of most tests here, on disk; a test configures them and runs what it needs."""

from __future__ import annotations

import pytest

from hamlet_core.agent import agent
from tests.support.meshes import Mesh


@pytest.fixture(autouse=True)
def time_to_end(monkeypatch):
    """What ends in order is not cut off because the machine stood still for a while."""
    monkeypatch.setattr(agent, "DRAIN", 60.0)


@pytest.fixture
def west(tmp_path):
    return Mesh(root=tmp_path, name="west")


@pytest.fixture
def east(tmp_path):
    return Mesh(root=tmp_path, name="east")
