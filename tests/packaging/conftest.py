"""The wheels that are installed into clean environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.clean import ALL, wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of every distribution, built by its own backend."""
    return {name: wheel(project, tmp_path_factory.mktemp(name)) for name, project in ALL.items()}
