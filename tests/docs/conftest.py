"""A machine with a Python and without Hamlet, for pages that install it by its name.

What is called by its name is a wheel of this repository in a folder, and what others made is linked from this
environment: so no index is asked for a name of ours, which somebody else might have there one day.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.typing_blocks import OTHERS, build_wheels, link_what_others_made, surroundings

PYTHON = '#!/bin/sh\nexec "{program}" "$@"\n'


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of every distribution of this repository."""
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def machine(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a shell on that machine; its pip knows the wheels and nothing else."""
    others, programs = tmp_path_factory.mktemp("others"), tmp_path_factory.mktemp("programs")
    link_what_others_made(others, *OTHERS)
    for name in ("python", "python3"):
        # The interpreter that environments are made of, and not ours.
        (programs / name).write_text(PYTHON.format(program=Path(sys.base_prefix) / "bin" / "python3"))
        (programs / name).chmod(0o755)
    return surroundings(programs, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels), PYTHONPATH=str(others))
