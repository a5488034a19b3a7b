"""Built wheels in clean environments: the core alone, the core and one plugin, all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.clean import ALL, Done, add, environment, run

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("environments")]
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: pki/agent.crt, key: pki/agent.key}
registries: {local: {kind: file, path: registry}}
"""
BACKENDS = """\
import importlib, json
from hamlet_core.plugins.discovery import discover

plugins = [found.entry_point.load() for found in discover()]
adapters = [each for plugin in plugins for each in getattr(plugin, "hamlet_adapters", list)()]
named = [adapter.backend for adapter in adapters if adapter.backend]
for each in named:
    module, _, factory = each.partition(":")
    assert callable(getattr(importlib.import_module(module), factory)), each
print(json.dumps(sorted(named)))
"""
Hamlet = Callable[..., Done]


@dataclass(frozen=True)
class Machine:
    """An environment, and a folder with a configuration; calling it is its `hamlet`."""

    binaries: Path
    place: Path

    def __call__(self, *arguments: object) -> Done:
        return run(self.binaries / "hamlet", *arguments, cwd=self.place)

    def python(self, code: str) -> Done:
        """Run `code` in the environment, which the folder it runs in adds nothing to."""
        return run(self.binaries / "python", "-I", "-c", code, cwd=self.place)


@pytest.fixture(scope="module")
def install(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Machine]:
    """Make an environment of the wheels named, and what they require."""

    def make(*names: str, extras: str = "") -> Machine:
        place = tmp_path_factory.mktemp("-".join(names))
        binaries = environment(place, *(f"{wheels[name]}{extras if name == 'envoy' else ''}" for name in names))
        (place / "hamlet.yaml").write_text(CONFIG)
        return Machine(binaries, place)

    return make


@pytest.fixture(scope="module")
def everything(install: Callable[..., Machine]) -> Machine:
    """An environment with every distribution there is."""
    return install(*ALL, extras="[bundled]")


def listed(hamlet: Hamlet) -> dict[str, tuple[str, ...]]:
    """What each plugin provides; none may have anything wrong with it."""
    plugins = json.loads(hamlet("plugins", "--json").out)
    assert {plugin["name"]: plugin["problem"] for plugin in plugins if plugin["problem"]} == {}
    return {plugin["name"]: tuple(sorted(plugin["provides"])) for plugin in plugins}


def test_the_core_alone_works_and_says_what_it_lacks(install: Callable[..., Machine]) -> None:
    hamlet = install("core")
    assert hamlet("--version").code == 0
    assert listed(hamlet) == {}
    lacking = hamlet("config", "check")
    assert lacking.code == 2
    assert "hamlet.yaml:3: registries.local.kind" in lacking.err
    assert "pip install hamlet-file" in lacking.err
    assert hamlet("pki", "init", "pki", "--trust-domain", "west.example").code == 0


def test_the_core_and_one_plugin_federate_two_meshes(install: Callable[..., Machine]) -> None:
    hamlet = install("core", "file")
    assert listed(hamlet) == {"file": ("coordinator", "registry")}
    assert hamlet("config", "check").code == 0
    shown = hamlet("demo", "--json")
    assert shown.code == 0, shown
    steps = [json.loads(line) for line in shown.out.splitlines()]
    assert all(step["ok"] for step in steps)
    assert not any("gateway" in step["step"] for step in steps), "no gateway is installed"


def test_all_plugins_live_side_by_side_and_calls_cross(everything: Machine) -> None:
    assert listed(everything) == {
        "audit": ("wrappers",),
        "consul": ("coordinator", "gateway", "registry"),
        "envoy": ("gateway",),
        "etcd": ("registry",),
        "file": ("coordinator", "registry"),
        "istio": ("coordinator", "gateway", "registry"),
    }
    shown = everything("demo", "--json")
    assert shown.code == 0, shown
    assert any("through both gateways" in json.loads(line)["step"] for line in shown.out.splitlines())


def test_every_backend_that_a_plugin_names_for_its_verification_is_installed_with_it(
    everything: Machine, wheels: dict[str, Path]
) -> None:
    add(everything.binaries, f"{wheels['core']}[testing]")
    found = everything.python(BACKENDS)
    assert found.code == 0, found
    named = {each.partition(":")[0].partition(".")[0] for each in json.loads(found.out)}
    assert named == {"hamlet_consul", "hamlet_envoy", "hamlet_etcd", "hamlet_file", "hamlet_istio"}
