"""What the pages show holds: links lead somewhere, configurations load, Python compiles, the API is documented."""

from __future__ import annotations

import ast
import errno
import importlib
import inspect
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import hamlet_core.api
from hamlet_core.agent.metrics import METRICS
from hamlet_core.api import changes, gateway, hookspecs, testing, values
from hamlet_core.api.testing import names as called
from hamlet_core.cli import COMMANDS, main
from hamlet_core.config import load

ROOT = Path(__file__).parents[3]
READMES = [*ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *READMES])
OURS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"`hamlet((?: [a-z][a-z-]*)+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a repository host gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), f"{link}: headings are {sorted(anchors(path))}"


def test_configurations_in_the_pages_load(tmp_path: Path) -> None:
    found = [text for page in OURS for text in blocks(page, "yaml") if text.startswith("# hamlet.yaml\n")]
    assert found
    for number, text in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert load.load(path, environ={}).mesh.name


UNQUOTED = re.compile(r"\{[^}\n]*: \$\{\w+\}")
"""A reference to the environment within a mapping in braces, without quotes."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_has_a_reference_within_braces_that_is_not_quoted(page: Path) -> None:
    assert not UNQUOTED.search(page.read_text(encoding="utf-8"))


def test_a_reference_within_braces_is_read_only_if_it_is_quoted() -> None:
    said = '{kind: consul, token: "${TOKEN}"}'
    assert f"`{said}`" in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert YAML(typ="safe").load(said) == {"kind": "consul", "token": "${TOKEN}"}
    unquoted = said.replace('"', "")
    assert UNQUOTED.search(unquoted)
    with pytest.raises(YAMLError):
        YAML(typ="safe").load(unquoted)


def test_every_page_is_found_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {page for page in OURS if page.name != "README.md"} - {ROOT / "docs" / "benchmarks.md"} <= linked


def test_metrics_in_alert_rules_exist_with_the_labels_they_are_asked_for() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (rules,) = [text for text in blocks(ROOT / "docs" / "operations.md", "yaml") if text.startswith("groups:")]
    expressions = [rule["expr"] for rule in YAML(typ="safe").load(rules)["groups"][0]["rules"]]
    used = {metric for expression in expressions for metric in re.findall(r"hamlet_\w+", expression)}
    assert used
    assert {metric.removesuffix("_total") for metric in used} <= METRICS.keys()
    reference = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in used | set(re.findall(r"`(hamlet_\w+)", page)):
        assert f"| `{metric}` |" in reference, f"{metric} is not what is scraped"


@pytest.mark.parametrize("page", OURS, ids=name)
def test_commands_that_a_page_names_exist(page: Path) -> None:
    for typed in TYPED.findall(page.read_text(encoding="utf-8")):
        words = typed.split()
        assert words[0] in COMMANDS, typed
        group = words[0] in ("config", "pki")
        outcome = CliRunner().invoke(main, [*words[: 2 if group else 1], "--help"])
        assert outcome.exit_code == 0, typed


@pytest.mark.parametrize("page", OURS, ids=name)
def test_python_in_the_pages_compiles_and_imports_only_what_is_public(page: Path) -> None:
    public = {*hamlet_core.api.__all__, *testing.__all__}
    for text in blocks(page, "python"):
        compile(text, name(page), "exec")
        for module, names in re.findall(r"^from (hamlet_core[\w.]*) import (.+)$", text, re.MULTILINE):
            assert module in ("hamlet_core.api", "hamlet_core.api.testing")
            assert {each.strip() for each in names.split(",")} <= public


def documented_values(module: ModuleType) -> set[str]:
    """Names of constants and aliases in a module that have a docstring below them."""
    body = ast.parse(inspect.getsource(module)).body
    found = set()
    for statement, following in itertools.pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        found |= {target.id for target in targets if isinstance(target, ast.Name) and is_text}
    return found


@pytest.mark.parametrize(
    ("package", "exported"),
    [(package, each) for package in (hamlet_core.api, testing) for each in package.__all__],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_public_name_says_what_it_is(package: ModuleType, exported: str) -> None:
    value = getattr(package, exported)
    if inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value)):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{exported}("), "it has only what dataclass writes by itself"
    else:
        modules = (changes, gateway, hookspecs, values, called)
        assert exported in set().union(*map(documented_values, modules))


def said() -> str:
    """Every text in the source of the agent and the plugins, joined; what is filled in is `…`."""
    sources = [*ROOT.glob("hamlet_core/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    texts = []
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    texts += map(os.strerror, errno.errorcode)  # what the operating system says is quoted too
    return " ".join("\n".join(texts).split())


def test_what_the_symptoms_quote_is_what_the_source_says() -> None:
    table = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Symptoms\n")[2]
    rows = [line.split(" | ")[0] for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    quoted = [quote for row in rows[1:] for quote in re.findall(r"`([^`]+)`", row) if " " in quote]
    assert len(quoted) > 15
    source = said()
    for quote in quoted:
        # Names that the page makes up are in capitals or quotes; `...` is what it leaves out, and the source may
        # put a sentence together of parts: two words after each other are always of one part, or nearly.
        pieces = re.split(r"\.\.\.|'[^']*'|\b[A-Z]+\b|\.\.\./\S+|: |\[\d+\]", quote)
        pairs = [" ".join(pair) for piece in pieces for pair in itertools.pairwise(piece.strip(" ,;()").split())]
        unknown = [pair for pair in pairs if pair not in source]
        assert len(unknown) <= len(pairs) / 3, f"{quote!r}: nothing says {unknown}"


def options_of(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """The options of an adapter as its README writes them: `tls.mode`."""
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        if not inner:  # a section is described by its options
            yield f"{at}{field.alias or name}"
        for each in inner:
            yield from options_of(each, f"{at}{field.alias or name}.")


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for member in getattr(annotation, "__args__", ()):
        yield from _models(member)


def explained(readme: str) -> dict[str, list[str]]:
    """The keys in the tables of options of a README, each with the meanings that these tables give it."""
    found: dict[str, list[str]] = {}
    for table in re.findall(r"^\| key \|.*\| meaning \|\n\|[-|]+\|\n((?:\|.*\n)+)", readme, re.MULTILINE):
        for row in table.splitlines():
            _, keys, *_, meaning, _ = row.split("|")
            for key in re.findall(r"`([^`]+)`", keys):
                found.setdefault(key, []).append(meaning.strip())
    return found


@pytest.mark.parametrize("plugin", sorted(path.parent.name for path in ROOT.glob("plugins/*/README.md")))
def test_every_option_of_an_adapter_is_in_a_table_of_its_readme_with_its_meaning(plugin: str) -> None:
    meanings = explained((ROOT / "plugins" / plugin / "README.md").read_text(encoding="utf-8"))
    module = importlib.import_module(f"hamlet_{plugin}.plugin")
    options = {option for adapter in module.hamlet_adapters() for option in options_of(adapter.options)}
    assert options
    assert not options - meanings.keys()
    assert not [key for key, said in meanings.items() if not all(said)], "without a meaning"


def test_a_key_without_a_meaning_is_noticed() -> None:
    head = "| key | default | meaning |\n|---|---|---|\n"
    assert explained(f"{head}| `a`, `b` | none | Words. |\n| `c` | `1` |  |\n") == {
        "a": ["Words."],
        "b": ["Words."],
        "c": [""],
    }
