"""A wrapper plugin around the registry of a running agent: every write of a federation is in its trail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Launch
from tests.support.meshes import Mesh
from tests.support.processes import wait_until


def test_what_a_peer_publishes_and_withdraws_is_in_the_trail_of_the_consumer(
    west: Mesh, east: Mesh, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = tmp_path / "audit.jsonl"
    monkeypatch.setenv("HAMLET_AUDIT_FILE", str(trail))
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer()}, plugins=["audit"])
    west.write_service("orders")
    launch(west)
    launch(east)
    wait_until(lambda: east.imported_names("west") == {"orders.west.example"})
    west.remove_service("orders")
    wait_until(lambda: not east.imported_names("west"))

    def done() -> list[tuple[str, str]]:
        whole = trail.read_text().rpartition("\n")[0]  # the last line may be just being written
        lines = [json.loads(line) for line in whole.splitlines()]
        assert {(line["registry"], line["kind"], line["peer"]) for line in lines} <= {("east", "file", "west")}
        return [(line["action"], line["outcome"]) for line in lines if line.get("service") == "orders.west.example"]

    wait_until(lambda: done() == [("write", "applied"), ("remove", "applied")], what="both are in the trail")


@pytest.mark.parametrize("command", ["run", "config check", "check"])
def test_an_audit_without_a_file_is_refused_by_a_start_and_by_the_checks_before_it(
    west: Mesh, east: Mesh, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("HAMLET_AUDIT_FILE", raising=False)
    west.configure({"east": east.peer()}, plugins=["audit"])
    hamlet = [sys.executable, "-m", "hamlet_core", "-c", str(west.config_path), *command.split()]
    done = subprocess.run(hamlet, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if command == "check" else 2), done  # a check lists it among its findings
    said = " ".join((done.stdout + done.stderr).split())
    refusal = "plugin 'audit' refuses to wrap registry 'west': the audit does not know where to write:"
    assert f"{refusal} HAMLET_AUDIT_FILE is not set" in said
    assert "set HAMLET_AUDIT_FILE to a file, or take `audit` out of `plugins`" in said
    assert "ConfigError" not in said


def test_a_check_of_the_configuration_leaves_no_trail(
    west: Mesh, east: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = tmp_path / "audit.jsonl"
    monkeypatch.setenv("HAMLET_AUDIT_FILE", str(trail))
    west.configure({"east": east.peer()}, plugins=["audit"])
    hamlet = [sys.executable, "-m", "hamlet_core", "-c", str(west.config_path), "config", "check"]
    done = subprocess.run(hamlet, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    assert not trail.exists()
