"""The command `hamlet verify-adapter` in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip

    return run
