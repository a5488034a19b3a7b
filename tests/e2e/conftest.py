from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess

Launch = Callable[..., AgentProcess]


@pytest.fixture
def west(tmp_path: Path) -> Mesh:
    return Mesh(root=tmp_path, name="west")


@pytest.fixture
def east(tmp_path: Path) -> Mesh:
    return Mesh(root=tmp_path, name="east")


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start the agent of a mesh as a process; it ends with the test."""
    started: list[AgentProcess] = []

    def start(mesh: Mesh, *arguments: str) -> AgentProcess:
        started.append(AgentProcess(mesh, *arguments))
        return started[-1].start()

    yield start
    for agent in started:
        agent.kill()
