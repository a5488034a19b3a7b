"""`hamlet verify-adapter` as it is typed, and what its report says against an adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

OWNER = {
    "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
    "identity": {"certificate": "a.crt", "key": "a.key"},
}
"""What a configuration says beside its adapters; the command reads neither file."""
IN_USE = frozenset({"passed", "does not apply"})
"""How a check of a backend in use may end."""


def verified(
    folder: Path, kind: str, adapters: dict[str, Any], *arguments: str, within: float = 500
) -> tuple[int, dict[str, Any]]:
    """Write `hamlet.yaml` with these adapters and type the command in its folder; the exit code and the report.

    `adapters` are the keys `registries`, `gateway` and `coordinator` of a configuration; `within` is in seconds.
    """
    (folder / "hamlet.yaml").write_text(yaml.safe_dump(OWNER | adapters))
    command = [sys.executable, "-m", "hamlet_core", "verify-adapter", kind, "--config", "hamlet.yaml"]
    command += ["--yes", "--json", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=within, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def unwell(report: dict[str, Any], well: Collection[str] = IN_USE) -> list[tuple[str, str, str]]:
    """The role, the check and the reason of each that did not end well, and what each role has left behind."""
    found = [
        (subject["role"], f"{rule['rule']} {each['check']}", str(each["reason"]))
        for subject in report["subjects"]
        for rule in subject["rules"]
        for each in rule["checks"]
        if each["result"] not in well
    ]
    return found + [
        (subject["role"], "left behind", left) for subject in report["subjects"] for left in subject["left_behind"]
    ]
