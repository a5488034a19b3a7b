"""The measurements run and say what they promise; what the numbers are is nobody's promise."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(300)
CONSUL = pytest.mark.xdist_group("bench-consul")
"""What one process has measured is looked at by more than one test."""


@functools.cache
def measure(*names: str) -> dict:
    command = [sys.executable, "-m", "bench", "--tiny", "--json", *names]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "Traceback" not in finished.stderr, "a process of it ended badly"
    return json.loads(finished.stdout)


@pytest.mark.parametrize(
    ("name", "rows", "with_reference"),
    [
        ("sync", 6, 6),
        ("latency", 4, 4),
        ("memory", 5, 4),
        ("fanout", 4, 4),
        ("silent", 2, 1),
        pytest.param("consul", 20, 18, marks=CONSUL),
        ("envoy", 27, 12),
    ],
)
def test_each_benchmark_prints_its_rows_and_stands_beside_a_reference(name, rows, with_reference):
    document = measure(name)
    assert {"cores", "python", "grpcio"} <= document["machine"].keys()
    assert document["seconds"] > 0
    assert [row["benchmark"] for row in document["rows"]] == [name] * rows
    assert len({row["case"] for row in document["rows"]}) == rows
    compared = [row for row in document["rows"] if row["reference"] is not None]
    assert len(compared) == with_reference
    for row in compared:
        for spread in (row["ours"], row["reference"], row["ratio"]):
            assert spread["least"] <= spread["median"] <= spread["most"]
        assert row["reference"]["least"] > 0, "a reference that did nothing"


@CONSUL
def test_imports_in_bulk_cost_consul_few_requests_beside_the_filled_transactions():
    rows = [row for row in measure("consul")["rows"] if row["unit"] == "requests" and "imports" in row["case"]]
    used = {row["case"]: (row["ours"]["least"], row["ours"]["most"], row["reference"]["most"]) for row in rows}
    # Looked at: our rights, Consul itself, our nodes twice, all names; written: the node, and 70 by 64 at a time.
    once = (5 + 1 + 2, 5 + 1 + 2, 2)
    # Each further call looks at our nodes and all names, and sends one transaction.
    often = (once[0] - 1 + 4 * 3, once[1] - 1 + 4 * 3, 2)
    assert used == {
        f"70 imports {where}, {size} a call: requests": expected
        for where in ("in memory", "on disk")
        for size, expected in ((70, once), (14, often))
    }


def test_a_name_that_is_no_benchmark_is_refused():
    command = [sys.executable, "-m", "bench", "nonsense"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 2
    assert "nonsense" in finished.stderr
