"""Every adapter of this repository, and every example of one, says as a number what contract it is made for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamlet_core.api import API_VERSION, AdapterOptions, AdapterType

ROOT = Path(__file__).parents[3]
CALL = re.compile(r"\bAdapterType\(")
PLACES = {  # by what to look through: how many are there at least
    "plugins/*/src/**/*.py": 9,
    "examples/*/src/**/*.py": 1,
    "hamlet_core/cli/templates/**/*.template": 1,
    "hamlet_core/api/testing/*.py": 3,
    "bench/*.py": 1,
}


def made(pattern: str) -> Iterator[tuple[Path, dict[str, object]]]:
    """Where an `AdapterType` is made, and what it is given as numbers and texts."""
    for file in ROOT.glob(pattern):
        text = file.read_text(encoding="utf-8").replace("$", "")
        code = re.sub(r"\{name\}", "Name", text) if file.suffix == ".template" else text
        if not CALL.search(code):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "AdapterType":
                values = {each.arg: each.value for each in node.keywords if each.arg}
                yield file, {key: value.value for key, value in values.items() if isinstance(value, ast.Constant)}


@pytest.mark.parametrize(("pattern", "least"), PLACES.items(), ids=PLACES)
def test_every_adapter_type_says_its_version_as_a_number(pattern: str, least: int) -> None:
    found = list(made(pattern))
    assert len(found) >= least
    for file, given in found:
        assert given.get("api_version") == API_VERSION, file


@pytest.mark.parametrize(
    "page", [*(ROOT / "docs").glob("*.md"), *ROOT.glob("[pe]*/*/README.md")], ids=lambda p: p.name
)
def test_every_adapter_type_on_a_page_says_its_version(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for match in CALL.finditer(text):
        call = text[match.start() :]
        assert "api_version=1," in call[: call.index(")")], call[:200]


def test_the_version_has_no_default_as_that_would_be_the_cores_own() -> None:
    with pytest.raises(TypeError, match="api_version"):
        AdapterType(kind="x", role="registry", options=AdapterOptions, open=object)  # type: ignore[call-arg]
