"""Built wheels in clean environments: the core alone, the core and one plugin, all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("environments")]
PROJECTS = {
    "core": ROOT,
    **{name: ROOT / "plugins" / name for name in ("file", "consul", "istio", "envoy")},
    "audit": ROOT / "examples" / "hamlet-audit",
}
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: pki/agent.crt, key: pki/agent.key}
registries: {local: {kind: file, path: registry}}
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*command: object, cwd: Path) -> Done:
    """Run a command in nothing but its own environment."""
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON", "HAMLET_"))
    }
    environ["PATH"] = "/usr/bin:/bin"
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


Hamlet = Callable[..., Done]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of every project, built by its own backend."""
    found = {}
    for name, project in PROJECTS.items():
        target = tmp_path_factory.mktemp(name)
        built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=project)
        assert built.code == 0, built
        (found[name],) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def install(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Hamlet]:
    """Make an environment of the wheels named, and what they require; returns its `hamlet`."""

    def make(*names: str, extras: str = "") -> Hamlet:
        place = tmp_path_factory.mktemp("-".join(names))
        assert run(sys.executable, "-m", "venv", place / "venv", cwd=place).code == 0
        binaries = place / "venv" / "bin"
        wanted = [f"{wheels[name]}{extras if name == 'envoy' else ''}" for name in names]
        pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        installed = run(*pip, *wanted, cwd=place)
        assert installed.code == 0, installed
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
