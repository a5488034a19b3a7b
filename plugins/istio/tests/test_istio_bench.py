"""The measurements of this adapter run and stand beside a reference; what the numbers are is nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[3]


@pytest.mark.usefixtures("kubernetes_binaries")
def test_every_row_has_a_reference() -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "--json", "istio"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "Traceback" not in finished.stderr
    rows = json.loads(finished.stdout)["rows"]
    assert len(rows) == 5
    assert all("GET, no other" in row["note"] for row in rows if "unchanged" in row["case"] or "again" in row["case"])
    assert all(row["reference"]["least"] > 0 for row in rows)
