"""docs/hooks.md leaves no hook, rule or type out, and shows for each rule what the kit checks."""

from __future__ import annotations

import inspect

import pytest

import hamlet_core.api
from docs.generate import PAGES
from docs.generate.hooks import checks_of, documented
from docs.generate.surface import SPECS, hooks_of, signature, suites
from hamlet_core.api import RegistrySpec, testing
from hamlet_core.api.testing.rules import named

PAGE = PAGES["hooks.md"]()
CHECKED = {name[5] for suite in suites() for name in dir(suite) if name.startswith("test_")}
"""The letters of the rules that the kit has a suite for."""


def section(title: str) -> str:
    return PAGE.partition(f"\n### {title}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


@pytest.mark.parametrize(("spec", "hook"), [(spec, hook) for spec in SPECS for hook in hooks_of(spec)], ids=str)
def test_every_hook_is_shown_with_its_signature_and_its_contract(spec: type, hook: str) -> None:
    function = hooks_of(spec)[hook]
    doc = inspect.getdoc(function)
    assert doc, f"{hook} has no docstring"
    assert signature(hook, function) in section(hook)
    shown = " ".join(section(hook).split())
    assert " ".join(doc.split("\n\n")[0].split()) in shown


def test_every_method_of_a_spec_is_a_hook() -> None:
    for spec in SPECS:
        assert {name for name in vars(spec) if not name.startswith("_")} == hooks_of(spec).keys()


def test_every_rule_is_an_item_of_its_own() -> None:
    assert {"R1", "R9"} <= documented()
    for rule in documented():
        assert PAGE.count(f"\n- **{rule}.** ") == 1, rule


@pytest.mark.parametrize("rule", sorted(rule for rule in documented() if rule[0].lower() in CHECKED))
def test_every_rule_that_the_kit_has_a_suite_for_is_checked_and_its_checks_are_shown(rule: str) -> None:
    assert checks_of(rule), f"{rule} has no check in hamlet_core.api.testing"
    for sentence in checks_of(rule):
        assert f"\n    - *check:* {sentence}\n" in PAGE


def test_every_check_is_about_a_rule_that_stands_in_a_spec() -> None:
    assert suites()
    assert "r" in CHECKED
    for suite in suites():
        for check in (each for each in dir(suite) if each.startswith("test_")):
            assert named(check)[0] in documented(), check


def test_every_type_of_the_api_is_shown_or_is_a_spec_an_error_or_a_function() -> None:
    for name in hamlet_core.api.__all__:
        value = getattr(hamlet_core.api, name)
        elsewhere = value in SPECS or inspect.isfunction(value) or name == "AdapterOptions"
        elsewhere = elsewhere or (inspect.isclass(value) and issubclass(value, Exception))
        assert elsewhere or section(name) or name == "Stop", name


def test_a_hook_that_is_not_shown_would_be_missed() -> None:
    assert section("registry_watch")
    assert not section("registry_nothing")
    assert RegistrySpec in SPECS
    assert testing.RegistryContract in suites()
