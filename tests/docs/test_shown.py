"""What pages show that the demo prints, or that a plugin writes, is printed and written again, and compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hamlet_audit.audit import Audit
from hamlet_audit.trail import Trail
from hamlet_file.registry import FileRegistry
from ruamel.yaml import YAML

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    Endpoint,
    FederatedService,
    ImportedService,
    Instance,
    RegistrySpec,
    Status,
    Wrapped,
    WriteImport,
)
from hamlet_core.api.testing import MemoryRegistry, imported_service
from tests.docs.blocks import ROOT, Block, blocks


def one(page: str, language: str, *, heading: str = "", title: str = "") -> Block:
    """The one block of a page that is meant."""
    (found,) = (
        each
        for each in blocks(ROOT / page)
        if (each.language, each.title) == (language, title) and (not heading or each.heading == heading)
    )
    return found


DEMO = one("README.md", "text", title="what make demo prints")
IMPORTED = one("plugins/file/README.md", "yaml", heading="A file in imported/")
TRAIL = one("examples/hamlet-audit/README.md", "json", heading="The lines")
SHOWN = [DEMO, IMPORTED, TRAIL]
"""The blocks that are compared here."""


def hooks(*adapters: object) -> pluggy.HookRelay:
    """The hooks of a registry and what is around it, as an agent has them."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    for each in adapters:
        manager.register(each)
    return manager.hook


# --- the demo ----------------------------------------------------------------------------------------------


def without_chance(text: str) -> list[str]:
    """The lines, without what differs each time: durations, ports, and the name of the folder."""
    for changing in (r"(?<= )[\d,]+ ms$", r"(?<=127\.0\.0\.1:)\d+", r"\S*/hamlet-demo-\w+(?=:)"):
        text = re.sub(changing, "…", text, flags=re.MULTILINE)
    return text.splitlines()


@pytest.mark.timeout(180)
def test_the_demo_prints_what_the_page_shows() -> None:
    # The make that runs these tests has no say in it, nor what it was told.
    told = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS")
    alone = {key: value for key, value in os.environ.items() if key not in told}
    made = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stdout.splitlines()[-1].strip().endswith("/hamlet demo")
    done = subprocess.run(
        [sys.executable, "-m", "hamlet_core", "demo"], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    assert without_chance(done.stdout) == without_chance(DEMO.text)


# --- a file in imported/ -----------------------------------------------------------------------------------

DIGEST = re.compile(r'^  (digest|checksum): "[0-9a-f]{32}"$', re.MULTILINE)


def test_the_adapter_of_files_writes_what_its_page_shows(tmp_path: Path) -> None:
    shown: dict[str, Any] = YAML(typ="safe").load(IMPORTED.text)
    mark = shown.pop("mark")
    listed: dict[str, tuple[Any, ...]] = {
        "endpoints": tuple(
            Endpoint(**{**each, "port": int(each["port"]), "labels": tuple(each["labels"])})
            for each in shown.pop("endpoints")
        ),
        "instances": tuple(
            Instance(**{**each, "endpoint_selector": tuple(each["endpoint_selector"])})
            for each in shown.pop("instances")
        ),
        **{key: tuple(shown.pop(key)) for key in ("tags", "sans")},
    }
    imported = ImportedService(
        peer=mark["peer"], local_name=shown.pop("local_name"), service=FederatedService(**shown, **listed)
    )
    context = AdapterContext(
        name=mark["registry"], mesh="west", domain="west.example", trust_domain=mark["trust_domain"],
        directory=tmp_path,
    )  # fmt: skip
    (tmp_path / "services").mkdir()
    opened = hooks(FileRegistry(tmp_path, context))
    try:
        (outcome,) = opened.registry_apply(changes=[WriteImport(imported)])
        assert outcome.status is Status.APPLIED, outcome
    finally:
        opened.registry_close()
    (written,) = (path.read_text(encoding="utf-8") for path in (tmp_path / "imported").glob("*/*.yaml"))
    assert mark["service"] == imported.service.name
    assert len(DIGEST.findall(written)) == 2
    assert DIGEST.sub(r"  \1", written) == DIGEST.sub(r"  \1", IMPORTED.text)


# --- a line of the audit's trail ---------------------------------------------------------------------------


def test_the_audit_writes_the_line_that_its_page_shows(tmp_path: Path) -> None:
    shown = json.loads(TRAIL.text)
    about = Wrapped(name=shown["registry"], kind=shown["kind"], role="registry")
    context = AdapterContext(
        name=about.name, mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
    )
    trail = tmp_path / "audit.jsonl"
    audited = hooks(MemoryRegistry().open(context), Audit(about, Trail(trail)))
    audited.registry_apply(changes=[WriteImport(imported_service("stock"))])
    (written,) = (json.loads(line) for line in trail.read_text(encoding="utf-8").splitlines())
    assert list(written) == list(shown), "the keys, in their order"
    times = [datetime.fromisoformat(line.pop("time")) for line in (written, shown)]
    assert {each.utcoffset() for each in times} == {times[0].utcoffset()}, "both with their zone, and that is UTC"
    assert written == shown
