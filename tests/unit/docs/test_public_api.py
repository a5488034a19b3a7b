"""docs/public-api.txt sees every change of what is promised to stay, and lists all of it."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

import hamlet_core.api
from docs.generate import surface
from docs.generate.metrics import exposed
from hamlet_core.api import RegistrySpec, testing
from hamlet_core.api.testing.import_rules import ImportRules
from hamlet_core.api.testing.stage import RegistryStage
from hamlet_core.cli import COMMANDS

LIST = Path(__file__).parents[3] / "docs" / "public-api.txt"


def test_the_list_is_that_of_the_code() -> None:
    hint = "the public API has changed: if that is meant, follow docs/api.md and run `make docs`"
    assert LIST.read_text(encoding="utf-8") == surface.public_api(), hint


@pytest.mark.parametrize(
    "name", [f"{module.__name__}:{name}" for module in (hamlet_core.api, testing) for name in module.__all__]
)
def test_every_exported_name_is_in_the_list(name: str) -> None:
    module, _, exported = name.partition(":")
    lines = surface.public_api().partition(f"[{module}]\n")[2].partition("\n[")[0].splitlines()
    assert any(line.startswith(exported) for line in lines)


def test_every_field_hook_command_and_metric_is_in_the_list() -> None:
    text = surface.public_api()
    for name in hamlet_core.api.__all__:
        value = getattr(hamlet_core.api, name)
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                listed = f"\n{name}.{field.name}: {field.type}" in text
                assert listed is not field.name.startswith("_"), f"{name}.{field.name}"
    for hook in surface.hooks_of(RegistrySpec):
        assert f"\nRegistrySpec.{hook}(" in text
    for command in COMMANDS:
        assert f"\nhamlet {command}" in text
    for metric in exposed():
        assert f"\n{metric.name} {metric.kind}" in text


def renamed(self: object, service: str) -> None:
    """An argument of another name."""


@dataclasses.dataclass
class Wider:
    """A dataclass with a field more."""

    name: str
    more: int


class Rewired:
    """One that has something from the beginning."""

    def __init__(self, way: str) -> None:
        self.way = self._way = way


@pytest.mark.parametrize(
    ("module", "name", "value", "line"),
    [
        ("hamlet_core.api", "Remove", Wider, "Remove.more: int"),
        ("hamlet_core.api", "API_VERSION", 2, "API_VERSION = 2"),
        ("hamlet_core.api.testing", "Relay", Rewired, "Relay.way (an attribute)"),
        ("hamlet_core.api", "format_duration", renamed, "format_duration(service: str) -> None"),
    ],
)
def test_a_change_of_an_exported_name_is_a_change_of_the_list(
    module: str, name: str, value: object, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = surface.public_api().splitlines()
    monkeypatch.setattr(importlib.import_module(module), name, value)
    assert line not in before
    assert line in surface.public_api().splitlines()


def test_a_new_argument_of_a_hook_is_a_change_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = RegistrySpec.registry_close
    before = surface.public_api()

    def registry_close(self: object, why: str) -> None:
        """Release everything, and say why."""

    registry_close.hamlet_spec = hook.hamlet_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(RegistrySpec, "registry_close", registry_close)
    assert "RegistrySpec.registry_close(why: str) -> None" not in before
    assert "RegistrySpec.registry_close(why: str) -> None" in surface.public_api()


@pytest.mark.parametrize(
    ("owner", "name", "line"),
    [
        (RegistryStage, "deadline", "RegistryContract.deadline = 20.0"),
        (RegistryStage, "names", "RegistryContract.names = Names(...)"),
        (RegistryStage, "agents", "RegistryContract.agents (a fixture)"),
        (
            ImportRules,
            "test_r7_what_an_agent_wrote_is_not_anothers",
            "RegistryContract.test_r7_what_an_agent_wrote_is_not_anothers (a check)",
        ),
        (testing.CoordinatorBackend, "__annotations__", "CoordinatorBackend.ttl: float"),
    ],
)
def test_what_plugins_override_and_are_checked_by_is_in_the_list(
    owner: type, name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line in surface.public_api().splitlines()
    monkeypatch.delattr(owner, name)
    assert line not in surface.public_api().splitlines()


@pytest.mark.parametrize("name", ["deny", "remove_foreign"])
def test_a_method_that_becomes_abstract_is_a_change_of_the_list(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(f"RegistryBackend.{name}(")]

    (optional,) = listed(surface.public_api())
    monkeypatch.setattr(getattr(testing.RegistryBackend, name), "__isabstractmethod__", True, raising=False)
    assert listed(surface.public_api()) == [f"{optional} (abstract)"]


def test_an_argument_that_takes_any_number_is_told_from_one_that_takes_one() -> None:
    def trust(self: object, *peers: str, soon: bool = False) -> None:
        """Trust some."""

    assert surface.signature("trust", trust) == "trust(*peers: str, soon: bool = False) -> None"
