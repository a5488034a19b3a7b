"""The measurement of the mixed federation runs and prints what it promises; its numbers are nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mixed.federation import East, West

pytestmark = [pytest.mark.xdist_group("mixed"), pytest.mark.timeout(300)]


def test_the_measurement_prints_a_row_for_coming_and_going_beside_the_registries_alone(
    linked: tuple[West, East],  # not used: where there is none, the measurement has nothing to run on either
) -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "--json", "mixed"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, "a thread of it ended badly"
    rows = json.loads(done.stdout)["rows"]
    assert [row["benchmark"] for row in rows] == ["mixed"] * 6
    assert len({row["case"] for row in rows}) == 6
    compared = [row for row in rows if row["reference"] is not None]
    assert len(compared) == 4
    assert all(row["ours"]["least"] > 0 and row["reference"]["least"] > 0 for row in compared)
