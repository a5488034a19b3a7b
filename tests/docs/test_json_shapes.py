"""docs/json-shapes.txt is what the commands print with --json: every field, with its type, from real agents.

`HAMLET_WRITE_SHAPES=1` writes the file anew instead of comparing it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

SHAPES = Path(__file__).parents[2] / "docs" / "json-shapes.txt"
HEAD = """\
# What `--json` prints, field by field; docs/api.md says what of it may be relied on.
# `[]` is an item of a list, `*` a name that is not fixed. Written by tests/docs/test_json_shapes.py.
"""
FREE = {"rejected", "aliases", "held", "retried", "crashes"}
"""Keys whose values are maps by names of services or tasks."""
Shapes = dict[str, set[str]]
SELDOM: Shapes = {
    "hamlet status.orphans[]": {"object"},
    "hamlet status.orphans[].peer": {"text"},
    "hamlet status.orphans[].service": {"text"},
    "hamlet status.crashes.*": {"number"},
    "hamlet status.coordinator": {"object"},
    **{f"hamlet status.coordinator.{key}": {"text"} for key in ("kind", "error")},
    "hamlet status.coordinator.leading": {"boolean"},
    "hamlet status.gateway": {"object"},
    **{f"hamlet status.gateway.{key}": {"text"} for key in ("kind", "state", "since", "error")},
    **{f"hamlet status.gateway.{key}": {"number"} for key in ("published", "imported")},
    **{f"hamlet status.gateway.{key}": {"list"} for key in ("endpoints", "sans")},
    **{f"hamlet status.gateway.{key}[]": {"text"} for key in ("endpoints", "sans")},
    "hamlet status.gateway.refused": {"object"},
    "hamlet status.gateway.refused.*": {"text"},
    "hamlet status.rotated[]": {"text"},
    "hamlet status.identity_expires": {"null"},
    "hamlet status.peers[].address": {"null"},
    "hamlet status.peers[].imports.aliases.*": {"text"},
    "hamlet status.peers[].imports.held.*": {"object"},
    "hamlet status.peers[].imports.held.*.since": {"text"},
    "hamlet status.peers[].imports.held.*.reason": {"text"},
    "hamlet status.peers[].imports.retried.*": {"object"},
    "hamlet status.peers[].imports.retried.*.since": {"text"},
    "hamlet status.peers[].imports.retried.*.reason": {"text"},
    "hamlet status.last_refusal_at": {"text"},
    "hamlet status.registries[].check.at": {"null"},
    "hamlet status.left[]": {"text"},
    "hamlet status.unusable[]": {"object"},
    "hamlet status.unusable[].peer": {"null", "text"},
    "hamlet status.unusable[].what": {"text"},
    "hamlet status.unusable[].file": {"text"},
    "hamlet status.unusable[].problem": {"text"},
    "hamlet status.unusable[].in_force": {"boolean"},
    "hamlet services.imported[].kept_until": {"text"},
    "hamlet services.published[].sans[]": {"text"},
    "hamlet services.published[].losses[]": {"text"},
    "hamlet plan.restart[]": {"text"},
    "hamlet config check.remarks[]": {"object"},
    **{f"hamlet config check.remarks[].{key}": {"text"} for key in ("where", "key", "message", "mend")},
    "hamlet plugins[].problem": {"text"},
    "hamlet verify-adapter.subjects[].backend": {"text"},
    "hamlet verify-adapter.subjects[].left_behind[]": {"text"},
    "hamlet verify-adapter.subjects[].rules[].checks[].detail": {"text"},
}
"""What is promised too, and takes more to bring about than the federation below."""


def shape(value: Any, at: str, found: Shapes) -> Shapes:
    """The type at every path of a document; what differs between items is listed together."""
    if isinstance(value, dict):
        found.setdefault(at, set()).add("object")
        for key, inner in value.items():
            shape(inner, f"{at}.*" if at.rpartition(".")[2] in FREE else f"{at}.{key}", found)
    elif isinstance(value, list):
        found.setdefault(at, set()).add("list")
        for inner in value:
            shape(inner, f"{at}[]", found)
    else:
        names = {bool: "boolean", int: "number", float: "number", str: "text", type(None): "null"}
        found.setdefault(at, set()).add(names[type(value)])
    return found


def written(shapes: Shapes) -> list[str]:
    return [f"{path}: {' or '.join(sorted(kinds))}" for path, kinds in shapes.items()]


def run(mesh: Mesh, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config_path), *arguments, "--json"],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.stdout, f"{arguments}: {done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[dict[str, list[Any]]]:
    """What each command prints, in a federation in which most of what can be said is the case."""
    west, east = Mesh(root=tmp_path, name="west"), Mesh(root=tmp_path, name="east")
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(accept=["orders.west.example", "s?.west.example"])})
    for name in ("orders", "refused", *(f"s{number}" for number in range(3))):
        west.write_service(name)
    (west.services / "unwell.yaml").write_text("name: unwell\nport: 80\n")
    agents = AgentProcess(west).start(), AgentProcess(east).start()
    try:
        agents[1].state("west", "imports", "live")
        agents[0].state("east", "exports", "live")
        wait_until(lambda: "orders.west.example" in east.imported_names("west"))
        wait_until(lambda: agents[0].status()["peers"][0]["exports"]["rejected"])
        found: dict[str, list[Any]] = {
            "status": [run(west, "status"), run(east, "status")],
            "services": [run(west, "services"), run(east, "services")],
            "check": [run(west, "check"), run(east, "check")],
            "config check": [run(west, "config", "check")],
            "plugins": [run(west, "plugins")],
            "pki init": [run(west, "pki", "init", str(tmp_path / "pki"), "--trust-domain", "north.example")],
            "pki issue": [run(west, "pki", "issue", str(tmp_path / "pki"))],
        }
        text = east.config_path.read_text()
        east.configure({"west": west.peer(accept=["s?.west.example"])}, publish=[])
        east.write_service("stock")
        wait_until(lambda: "stock" in json.dumps(agents[1].ask("services")["published"]), what="its registry tells")
        found["plan"] = [run(east, "plan")]
        west.configure({"east": east.peer()}, publish=[{"to": [], "direct": True}])
        found["plan"].append(run(west, "plan"))
        east.config_path.write_text("mesh: {}\n")
        found["config check"].append(run(east, "config", "check"))
        east.config_path.write_text(text)
        agents[0].kill()
        found["verify-adapter"] = [run(west, "verify-adapter", "file", "--no-backend", "--yes")]
        agents[1].state("west", "imports", "stale")
        found["status"].append(run(east, "status"))
        found["confirm"] = [run(east, "confirm", "west")]
        found["leave"] = [run(east, "leave", "west", "--yes")]
        yield found
    finally:
        for agent in agents:
            agent.kill()


def promised() -> Shapes:
    """What the file says: the types at each path."""
    lines = [line for line in SHAPES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {path: set(kinds.split(" or ")) for path, _, kinds in (line.partition(": ") for line in lines)}


@pytest.mark.timeout(300)
def test_every_field_that_is_printed_is_promised_and_every_promised_one_is_printed(
    documents: dict[str, list[Any]],
) -> None:
    printed: Shapes = {}
    for command, found in documents.items():
        for document in found:
            shape(document, f"hamlet {command}", printed)
    known = promised() if SHAPES.exists() else {}
    if os.environ.get("HAMLET_WRITE_SHAPES"):
        # Types that were seen before and not this time stay: whether an error is text or null is a matter of moments.
        merged = {
            path: printed.get(path, set()) | known.get(path, set()) | SELDOM.get(path, set())
            for path in sorted(printed.keys() | SELDOM.keys())
        }
        SHAPES.write_text(HEAD + "".join(f"{line}\n" for line in written(merged)), encoding="utf-8")
        known = promised()
    assert known.keys() - SELDOM.keys() <= printed.keys(), sorted(known.keys() - SELDOM.keys() - printed.keys())
    assert printed.keys() <= known.keys(), sorted(printed.keys() - known.keys())
    for path, kinds in printed.items():
        assert kinds <= known[path], f"{path} is {kinds}; promised is {known[path]}"
