"""The reference pages are what the code says, and leave nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from docs.generate import PAGES
from docs.generate.configuration import keys_of
from hamlet_core.agent.metrics import METRICS
from hamlet_core.cli import COMMANDS, main
from hamlet_core.config.keys import name_of
from hamlet_core.config.model import Brake, Config

DOCS = Path(__file__).parents[3] / "docs"


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section of the model, and all below it."""
    yield model
    for field in model.model_fields.values():
        for found in _models_in(field.annotation):
            yield from sections(found)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for member in getattr(annotation, "__args__", ()):
        yield from _models_in(member)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    checked_in = (DOCS / name).read_text(encoding="utf-8")
    assert checked_in == PAGES[name](), f"docs/{name} is out of date: run `make docs`"


def test_every_key_of_the_configuration_has_a_line_with_its_meaning() -> None:
    page = PAGES["configuration.md"]()
    fields = [
        (name_of(name, field), field) for model in sections(Config) for name, field in model.model_fields.items()
    ]
    assert len(fields) > 50
    for key, field in fields:
        assert field.description, f"{key} has no description"
        assert any(line.startswith(f"| `{key}` |") and field.description in line for line in page.splitlines()), key


def test_the_sections_that_are_looked_at_are_all_there_are() -> None:
    assert Brake in set(sections(Config))  # the deepest one
    assert {re.split(r"[.\[]", place)[0] for place, _ in keys_of(Config)} == {
        name_of(name, field) for name, field in Config.model_fields.items()
    }


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from commands(sub, f"{path} {name}")


def test_every_command_and_option_is_in_the_reference_and_has_a_help() -> None:
    page = PAGES["cli.md"]()
    found = [each for name, lazy in COMMANDS.items() for each in commands(lazy.load(), f"hamlet {name}")]
    assert len(found) > 15
    for path, command in found:
        section = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert section, path
        assert command.help, path
        for option in (each for each in command.params if isinstance(each, click.Option)):
            assert option.help, f"{path} {option.opts}"
            assert option.help in section, f"{path} {option.opts}"
    for option in (each for each in main.params if isinstance(each, click.Option)):
        assert f"`{option.opts[-1]}" in page


def test_every_metric_is_in_the_reference_under_the_name_that_is_scraped() -> None:
    page = PAGES["metrics.md"]()
    for name, meaning in METRICS.items():
        assert any(f"| `{exposed}` |" in page for exposed in (name, f"{name}_total")), name
        assert meaning in page


@pytest.mark.parametrize(
    ("section", "key", "change"),
    [
        ("gateway", "kind", "restart"),
        ("gateway", "endpoints", "at once"),
        ("gateway", "sans", "at once"),
        ("egress", "kind", "restart"),
        ("coordinator", "kind", "restart"),
        ("registries.NAME", "kind", "restart"),
    ],
)
def test_the_reference_says_what_a_change_of_a_part_needs(section: str, key: str, change: str) -> None:
    part = PAGES["configuration.md"]().partition(f"\n## `{section}`\n")[2].partition("\n## ")[0]
    (row,) = [line for line in part.splitlines() if line.startswith(f"| `{key}` |")]
    assert row.split(" | ")[3] == change
