"""docs/errors.md has every class of errors, every exit code, every code of streams and every sentence."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hamlet_core
from docs.generate import PAGES
from docs.generate.classes import error_classes
from docs.generate.messages import Message, messages, stream_codes
from docs.generate.reading import words
from hamlet_core.api import AdapterError, AdapterOptions, AdapterType, HamletError, hookimpl
from hamlet_core.cli.exits import Exit
from hamlet_core.config.load import read
from hamlet_core.config.problems import ConfigProblems
from hamlet_core.plugins import loader
from hamlet_core.plugins.discovery import Found
from hamlet_core.plugins.registration import register

sections = importlib.import_module("docs.generate.sections")
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


SENTENCES = [
    row.partition(" |")[0].strip("| `") for row in PAGE.partition("## Sentences")[2].splitlines() if "|" in row
]


def rows_of(said: str) -> list[str]:
    """The sentences of the page that something said may be; not those that have hardly a word of their own."""
    texts = [each.removesuffix("` *(part)*").strip("` ") for each in SENTENCES]
    patterns = {each: re.escape(each).replace("…", ".*") for each in texts if words(each) > 1}
    return [each for each, pattern in patterns.items() if re.fullmatch(pattern, said, re.DOTALL)]


def test_every_sentence_is_on_the_page() -> None:
    assert len(messages()) > 400
    for each in messages():
        text = each.text if errors._code(each.text) in PAGE else each.text.removesuffix("…")
        assert errors._code(text) in PAGE, each


WRONG = """\
mesh: {name: West, domain: west.example, trust_domain: spiffe://west.example}
identity: {certificate: pki/agent.crt, key: pki/agent.key}
listen: nowhere
admin: {http: 10.0.0.1:8009, colour: blue}
registries: {local: {kind: file, path: registry}}
publish:
  - {to: east, from: 7, name: "{nobody}"}
  - {to: [north], from: 2026-03-02T08:00:00Z, until: 2026-03-01T08:00:00Z}
peers:
  east: {trust_domain: east.example, dns_name: east.example, retain: soon, brake: {share: lots}, allow_endpoints: [x]}
  south: {trust_domain: south.example, bundle: b.pem, spiffe_id: "spiffe://north.example/agent", quiet: 0}
"""


def test_what_a_wrong_configuration_is_told_is_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "hamlet.yaml"
    file.write_text(WRONG)
    with pytest.raises(ConfigProblems) as told:
        read(file, environ={})
    assert len(told.value.problems) > 10
    assert [each.message for each in told.value.problems if not rows_of(each.message)] == []


def adapter_type(version: int = 1, **changes: object) -> AdapterType:
    fields = {
        "kind": "x",
        "role": "registry",
        "options": AdapterOptions,
        "open": print,
        "api_version": version,
        **changes,
    }
    return AdapterType(**fields)  # type: ignore[arg-type]


class Misspelt:
    @hookimpl
    def hamlet_adaptors(self) -> None: ...


class Defaulting:
    @hookimpl
    def hamlet_wrappers(self, kind: str = "", registry: str = "") -> None: ...


@pytest.mark.parametrize(("plugin", "says"), [(Misspelt(), "is no hook"), (object(), "implements no hook")])
def test_what_a_plugin_is_told_that_cannot_be_registered_is_on_the_page(plugin: object, says: str) -> None:
    with pytest.raises(AdapterError, match=says) as told:
        register(loader._new_manager(), plugin, "x", described="plugin 'x' of x 1.0")
    assert rows_of(str(told.value))
    assert any(says in each for each in SENTENCES)


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ([adapter_type(99)], "is made for version"),
        ([7], "which is no AdapterType"),
        ([adapter_type(kind="y")], "the kind equals the entry point's name"),
        ([adapter_type(), adapter_type()], "times"),
        ([adapter_type(role="king")], "is due"),
    ],
)
def test_what_is_wrong_with_an_adapter_type_is_on_the_page(types: list[object], says: str) -> None:
    plugin = Found(name="x", distribution="x", version="1.0", entry_point=None)
    fault, _ = loader._fault(plugin, types)
    assert says in fault
    assert rows_of(f"{plugin} {fault}"), fault


def test_every_section_says_what_it_is_about_before_its_sentences() -> None:
    parts = PAGE.partition("## Sentences")[2].split("\n### ")[1:]
    assert [part.splitlines()[0] for part in parts] == [each.title for each in sections.SECTIONS]
    for part, section in zip(parts, sections.SECTIONS, strict=True):
        assert part.splitlines()[2] == section.about
        assert len(section.about.split()) > 6


def test_a_sentence_that_no_section_takes_stops_the_page() -> None:
    stray = Message(said_by="HamletError", text="it is lost", mend="", distribution="x", module="hamlet_new.x")
    with pytest.raises(LookupError, match=r"no section .* takes what hamlet_new\.x says as HamletError"):
        sections.divided([*messages(), stray])


def test_a_section_without_sentences_stops_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = sections.Section(title="Nothing", about="What nobody says.", modules=("hamlet_new",))
    monkeypatch.setattr(sections, "SECTIONS", (*sections.SECTIONS, empty))
    with pytest.raises(LookupError, match="Nothing"):
        sections.divided(messages())


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
