"""Built wheels in clean environments: the core alone, the core and one plugin, all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.clean import PROJECTS, Done, environment, run

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("environments")]
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: pki/agent.crt, key: pki/agent.key}
registries: {local: {kind: file, path: registry}}
"""
Hamlet = Callable[..., Done]


@pytest.fixture(scope="module")
def install(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Hamlet]:
    """Make an environment of the wheels named, and what they require; returns its `hamlet`."""

    def make(*names: str, extras: str = "") -> Hamlet:
        place = tmp_path_factory.mktemp("-".join(names))
        binaries = environment(place, *(f"{wheels[name]}{extras if name == 'envoy' else ''}" for name in names))
        (place / "hamlet.yaml").write_text(CONFIG)
        return lambda *arguments: run(binaries / "hamlet", *arguments, cwd=place)

    return make


def listed(hamlet: Hamlet) -> dict[str, tuple[str, ...]]:
    """What each plugin provides; none may have anything wrong with it."""
    plugins = json.loads(hamlet("plugins", "--json").out)
    assert {plugin["name"]: plugin["problem"] for plugin in plugins if plugin["problem"]} == {}
    return {plugin["name"]: tuple(sorted(plugin["provides"])) for plugin in plugins}


def test_the_core_alone_works_and_says_what_it_lacks(install: Callable[..., Hamlet]) -> None:
    hamlet = install("core")
    assert hamlet("--version").code == 0
    assert listed(hamlet) == {}
    lacking = hamlet("config", "check")
    assert lacking.code == 2
    assert "hamlet.yaml:3: registries.local.kind" in lacking.err
    assert "pip install hamlet-file" in lacking.err
    assert hamlet("pki", "init", "pki", "--trust-domain", "west.example").code == 0


def test_the_core_and_one_plugin_federate_two_meshes(install: Callable[..., Hamlet]) -> None:
    hamlet = install("core", "file")
    assert listed(hamlet) == {"file": ("coordinator", "registry")}
    assert hamlet("config", "check").code == 0
    shown = hamlet("demo", "--json")
    assert shown.code == 0, shown
    steps = [json.loads(line) for line in shown.out.splitlines()]
    assert all(step["ok"] for step in steps)
    assert not any("gateway" in step["step"] for step in steps), "no gateway is installed"


def test_all_plugins_live_side_by_side_and_calls_cross(install: Callable[..., Hamlet]) -> None:
    hamlet = install(*PROJECTS, extras="[bundled]")
    assert listed(hamlet) == {
        "audit": ("wrappers",),
        "consul": ("coordinator", "gateway", "registry"),
        "envoy": ("gateway",),
        "file": ("coordinator", "registry"),
        "istio": ("coordinator", "gateway", "registry"),
    }
    shown = hamlet("demo", "--json")
    assert shown.code == 0, shown
    assert any("through both gateways" in json.loads(line)["step"] for line in shown.out.splitlines())
