"""docs/errors.md has every class of errors, every exit code, every code of streams and every sentence."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import hamlet_core
from docs.generate import PAGES
from docs.generate import messages as source
from docs.generate.messages import error_classes, messages, stream_codes
from hamlet_core.api import HamletError
from hamlet_core.cli.exits import Exit

errors = importlib.import_module("docs.generate.errors")  # the package has a function of that name
PAGE = PAGES["errors.md"]()


def subclasses(kind: type[HamletError]) -> Iterator[type[HamletError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_every_class_of_errors_that_can_be_imported_is_found_in_the_source() -> None:
    for module in pkgutil.walk_packages(hamlet_core.__path__, "hamlet_core."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {kind.__name__ for kind in subclasses(HamletError) if kind.__module__.startswith("hamlet_core.")}
    assert found <= error_classes().keys()
    assert len(found) > 8


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_class_of_errors_has_its_meaning_and_what_to_do(name: str) -> None:
    assert error_classes()[name].doc, f"{name} has no docstring"
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    assert errors.FAMILIES[name][1] in row


@pytest.mark.parametrize("code", [*Exit, 130])
def test_every_exit_code_has_its_meaning_and_what_to_do(code: int) -> None:
    assert f"| {int(code)} | {errors.EXITS[code][0]} |" in PAGE


def test_every_code_of_streams_is_explained() -> None:
    assert {"UNAVAILABLE", "UNAUTHENTICATED"} <= stream_codes()
    assert set(errors.CODES) == stream_codes()


def test_every_sentence_is_on_the_page() -> None:
    assert len(messages()) > 100
    for each in messages():
        assert errors._code(each.text) in PAGE, each


@pytest.mark.parametrize(
    ("table", "key"), [("FAMILIES", "IdentityError"), ("EXITS", Exit.INTERNAL), ("CODES", "ABORTED")]
)
def test_what_has_no_entry_stops_the_page(table: str, key: object, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {name: entry for name, entry in getattr(errors, table).items() if name != key}
    monkeypatch.setattr(errors, table, left)
    with pytest.raises(LookupError):
        PAGES["errors.md"]()


@pytest.mark.parametrize("table", ["FAMILIES", "CODES"])
def test_an_entry_for_nothing_stops_the_page(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, table, {**getattr(errors, table), "NOTHING": ("", "", "")})
    with pytest.raises(LookupError, match="NOTHING"):
        PAGES["errors.md"]()


@pytest.mark.parametrize(
    ("code", "text", "mend"),
    [
        ('raise HamletError("the plain words", mend="do it")', "the plain words", "do it"),
        ('raise HamletError(f"the {thing} is {value!r} here")', "the … is … here", ""),
        ('message = f"one {thing} is wrong"\n    raise HamletError(message) from None', "one … is wrong", ""),
        (
            'message = "first of two"\n    message = "second of two"\n    raise HamletError(message)',
            "second of two",
            "",
        ),
        ('raise HamletError("in two " + f"parts {thing}")', "in two parts …", ""),
        ('return Finding(subject="x", severity=1, message="not so well")', "not so well", ""),
    ],
)
def test_a_sentence_is_read_from_the_source_as_it_is_written(code: str, text: str, mend: str) -> None:
    tree = ast.parse(f"def f():\n    {code}\n")
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    (found,) = source._messages_in(function, source._Module("hamlet-core", "hamlet_core.x", tree))
    assert (found.text, found.mend) == (text, mend)
