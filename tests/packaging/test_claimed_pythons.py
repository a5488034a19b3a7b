"""Which Pythons the packages claim is said in one way, and those that a machine has are found."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.clean import ALL, ROOT
from tests.packaging.pythons import CLAIMED, LEFT_OUT, OURS, claimed, interpreter

TEMPLATE = ROOT / "hamlet_core" / "cli" / "templates" / "adapter"


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_only_seems_to_be_there_is_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "shims" / "python3.12", "exit 127")
    executable(tmp_path / "other" / "python3.12", "echo cpython-311")
    (tmp_path / "empty").mkdir()
    path = [tmp_path / name for name in ("missing", "empty", "shims", "other")]
    assert interpreter("3.12", path=path, pyenv=tmp_path / "pyenv") is None
    right = executable(tmp_path / "right" / "python3.12", "echo cpython-312")
    assert interpreter("3.12", path=[*path, right.parent], pyenv=tmp_path / "pyenv") == right


def test_pyenv_gives_the_newest_of_a_version_that_is_of_the_usual_build(tmp_path: Path) -> None:
    for name, says in (("3.12.9", "312"), ("3.12.10", "312"), ("3.12.11t", "312t"), ("3.13.0", "313")):
        executable(tmp_path / "versions" / name / "bin" / "python", f"echo cpython-{says}")
    found = interpreter("3.12", path=[], pyenv=tmp_path)
    assert found == tmp_path / "versions" / "3.12.10" / "bin" / "python"


def test_the_python_of_this_run_is_claimed_and_found_where_it_is(tmp_path: Path) -> None:
    assert OURS in CLAIMED
    (tmp_path / f"python{OURS}").symlink_to(sys.executable)
    assert interpreter(OURS, path=[tmp_path], pyenv=tmp_path) == tmp_path / f"python{OURS}"


def test_what_is_left_out_is_there() -> None:
    assert [name for name in LEFT_OUT if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("name", ALL)
def test_every_distribution_requires_the_oldest_python_that_is_claimed(name: str) -> None:
    project = ALL[name]
    required = tomllib.loads((project / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={CLAIMED[0]}"
    assert claimed(project) in {(), CLAIMED}, "classifiers that differ from the core's"


def test_tools_pages_and_the_scaffold_speak_of_the_pythons_that_are_claimed() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["python_version"] == CLAIMED[0]
    assert tools["ruff"]["target-version"] == f"py{CLAIMED[0].replace('.', '')}"
    for page in ("README.md", "CONTRIBUTING.md"):
        assert re.findall(r"Python (3\.\d+)\s+or\s+newer", (ROOT / page).read_text()) == [CLAIMED[0]], page
    matrix = re.search(r"python: \[(.*)\]", (TEMPLATE / "ci.yml.template").read_text())
    assert matrix is not None
    assert tuple(re.findall(r'"(.+?)"', matrix[1])) == CLAIMED
    assert f'requires-python = ">={CLAIMED[0]}"' in (TEMPLATE / "pyproject.toml.template").read_text()
