"""Tests of one group stay together: they share a backend that takes seconds to start and a part of a core to run.

Some versions of pytest and pytest-xdist do not understand each other about groups, and neither says so: every worker
then starts every backend.
"""

from __future__ import annotations

import subprocess
import sys

MODULE = """
import os, pathlib, pytest

@pytest.mark.xdist_group("of-this-module")
@pytest.mark.parametrize("number", range(10))
def test_where(number):
    (pathlib.Path(__file__).with_suffix("") / os.environ["PYTEST_XDIST_WORKER"]).touch()
"""


def test_a_group_is_run_by_one_worker(tmp_path):
    (tmp_path / "test_it.py").write_text(MODULE)
    (workers := tmp_path / "test_it").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "10 passed" in done.stdout, done.stdout + done.stderr
    assert len([*workers.iterdir()]) == 1, "the pytest and pytest-xdist that are installed do not group tests"
