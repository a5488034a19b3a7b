"""The quick start of README.md, typed as it stands there: every command works, and shows what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.meshes import PATIENCE
from tests.support.ports import free_port
from tests.support.shell import shell, steps

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.timeout(600)
def test_the_quick_start_works_as_it_stands(tmp_path: Path) -> None:
    page = README.read_text(encoding="utf-8")
    ports = {number: str(free_port()) for number in ("8008", "9008", "9009")}
    for number, free in ports.items():
        page = re.sub(rf"\b127\.0\.0\.1:{number}\b", f"127.0.0.1:{free}", page)
    west = f"listen: 127.0.0.1:{ports['8008']}\n"
    page = page.replace(west, f"{west}admin: {{http: null}}\n")  # its default port may be taken
    found = steps(page.partition("## Quick start by hand\n")[2].partition("\n## ")[0])
    assert len(found) > 10
    with shell(tmp_path) as typed:
        typed.follow(found, within=2 * PATIENCE, absent=frozenset({"orders.west.example"}))
