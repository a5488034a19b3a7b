"""The command `hamlet` in a folder of its own, with plugins that the tests install."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.cli import packages
from tests.unit.cli.packages import Hamlet, Install
from tests.unit.cli.toy_runs import CONFIG, Verify

TOY = Path(__file__).with_name("toy_plugin.py")


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Run the command in a folder with a file registry, and with the adapter `toy` installed."""
    (tmp_path / "mesh" / "services").mkdir(parents=True)
    (tmp_path / "hamlet.yaml").write_text(CONFIG)
    packages = tmp_path / "packages"
    (packages / "hamlet_toy-1.dist-info").mkdir(parents=True)
    (packages / "toy_module.py").write_bytes(TOY.read_bytes())
    (packages / "hamlet_toy-1.dist-info" / "METADATA").write_text("Name: hamlet-toy\nVersion: 1\n")
    (packages / "hamlet_toy-1.dist-info" / "entry_points.txt").write_text("[hamlet]\ntoy = toy_module\n")

    def run(
        *arguments: str, config: str | None = None, answers: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        if config is not None:
            (tmp_path / "hamlet.yaml").write_text(CONFIG + config)
        return subprocess.run(
            [sys.executable, "-m", "hamlet_core", "verify-adapter", *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(packages), **environ}, input=answers,
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def hamlet(tmp_path: Path) -> Hamlet:
    """Run a command in a process of its own, as damaged distributions are met when libraries are imported."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "hamlet.yaml").write_text(packages.CONFIG)

    def run(*arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
        if config:
            (tmp_path / "hamlet.yaml").write_text(config)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYDANTIC_")}
        return subprocess.run(
            [sys.executable, "-m", "hamlet_core", *arguments],
            cwd=tmp_path, env=environ | {"PYTHONPATH": str(tmp_path / "packages")}, input="",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Leave a distribution behind as pip would, with an entry point of the name of its module, or with others."""

    def put(module: str, source: str = "", *, entry_points: bytes = b"", requires: Sequence[str] = ()) -> None:
        info = tmp_path / "packages" / f"acme_{module}-1.0.dist-info"
        info.mkdir()
        required = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{module}\nVersion: 1.0\n{required}")
        (info / "entry_points.txt").write_bytes(entry_points or f"[hamlet]\n{module} = {module}\n".encode())
        (tmp_path / "packages" / f"{module}.py").write_text(textwrap.dedent(source))

    return put
