"""The quick start of README.md, typed as it stands there: every command works, and shows what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.meshes import PATIENCE
from tests.support.ports import free_port, free_ports
from tests.support.shell import shell, steps

README = Path(__file__).parents[2] / "README.md"


ADDRESSES = ("8008", "9008", "9009", "15443", "16443", "21000", "8080")
"""Ports of the page: where something listens, or is called."""
RANGES = ("20000-20099", "21000-21099")
"""Ports of the egresses: each gets a range of one, from the port that its first import is reached at."""


def on_free_ports(page: str) -> str:
    """The page, on ports that are free now."""
    free = dict(zip(ADDRESSES, map(str, free_ports(len(ADDRESSES))), strict=True))
    for each in RANGES:
        port = free.get(each.partition("-")[0]) or str(free_port())
        page = page.replace(f"ports: {each}", f"ports: {port}-{port}")
    for number, port in free.items():
        assert re.search(rf"\b{number}\b", page), number
        page = re.sub(rf"\b{number}\b", port, page)
    west = f"listen: 127.0.0.1:{free['8008']}\n"
    assert west in page
    return page.replace(west, f"{west}admin: {{http: null}}\n")  # its default port may be taken


@pytest.mark.timeout(600)
def test_the_quick_start_works_as_it_stands(tmp_path: Path) -> None:
    page = README.read_text(encoding="utf-8").partition("## Quick start by hand\n")[2]
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    assert parts[1].startswith("Calls across: gateways\n")
    found = steps(on_free_ports("".join(parts[:2])))
    assert len(found) > 20
    with shell(tmp_path) as typed:
        typed.follow(found, within=2 * PATIENCE, absent=frozenset({"orders.west.example"}))
