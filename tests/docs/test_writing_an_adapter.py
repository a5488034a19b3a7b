"""The tutorial's blocks, put on the scaffold in order, are examples/hamlet-etcd; and that keeps the contract."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hamlet_core.api.testing import (
    CoordinatorBackend,
    CoordinatorContract,
    GatewayBackend,
    GatewayContract,
    RegistryBackend,
)
from hamlet_core.cli.scaffold import project
from tests.backends.not_run import needed
from tests.docs.blocks import ROOT, Block, blocks, make
from tests.docs.typing_blocks import BINARIES, succeeds, surroundings, typed
from tests.support.meshes import PATIENCE
from tests.support.shell import shell, steps

PAGE = ROOT / "docs" / "writing-an-adapter.md"
EXAMPLE = ROOT / "examples" / "hamlet-etcd"
MADE_BY_TOOLS = re.compile(r"(^|/)(\.venv|\.[a-z]+_cache|__pycache__|[^/]*\.egg-info)/")


def shown() -> list[Block]:
    """The blocks that are files, or changes of files."""
    return [each for each in blocks(PAGE) if "/" in each.title or each.title.endswith((".md", ".toml"))]


CONTRACTS = {"A gateway": GatewayContract, "A coordinator": CoordinatorContract}
"""Headings that show a whole module of tests, and the contract that it runs."""


def modules() -> dict[str, Block]:
    """Those modules by heading."""
    return {
        each.heading: each
        for each in blocks(PAGE)
        if (each.language, each.title) == ("python", "") and each.heading in CONTRACTS
    }


def standing(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items() if not MADE_BY_TOOLS.search(name)}


def test_the_blocks_of_the_tutorial_on_the_scaffold_are_the_example() -> None:
    made = make({str(path): text for path, text in project("etcd").items()}, shown())
    example = standing(EXAMPLE)
    assert sorted(made) == sorted(example)
    for path, text in made.items():
        assert text == example[path], f"{path} of the tutorial is not that of the example"


def test_the_first_step_prints_what_the_page_shows(tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## 1. ")[2].partition("\n## ")[0]
    found = steps(section)
    assert len(found) == 1
    with shell(tmp_path) as typed:
        typed.follow(found, within=PATIENCE)


def test_a_change_that_fits_nowhere_or_twice_fails() -> None:
    block = Block(page="x.md", line=1, language="diff", title="a", heading="", text=" one\n-two\n+three\n")
    assert make({"a": "one\ntwo\n"}, [block]) == {"a": "one\nthree\n"}
    for text in ("one\n", "one\ntwo\none\ntwo\n"):
        with pytest.raises(AssertionError, match="not once"):
            make({"a": text}, [block])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("heading", CONTRACTS)
def test_the_tests_of_what_is_in_memory_are_the_whole_contract(heading: str, tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(modules()[heading].text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--disable-plugin-autoload", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    run = set(re.findall(r"::(test_\w+)(?:\[.*\])? PASSED", done.stdout))
    assert run == {name for name in dir(CONTRACTS[heading]) if name.startswith("test_")}


def test_each_heading_of_a_module_has_one_and_no_other_is_left() -> None:
    untitled = [each for each in blocks(PAGE) if (each.language, each.title) == ("python", "")]
    assert [each.heading for each in untitled] == list(CONTRACTS)


@pytest.mark.parametrize(
    ("heading", "backend"),
    [
        ("## 7. Prove it\n", RegistryBackend),
        ("## A gateway\n", GatewayBackend),
        ("## A coordinator\n", CoordinatorBackend),
    ],
)
def test_every_method_of_a_backend_is_explained(heading: str, backend: type) -> None:
    table = PAGE.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {name for name in {**vars(backend), **inspect.get_annotations(backend)} if name[0] != "_"}


@pytest.fixture(scope="module")
def etcd() -> Path:
    """The folder of a real etcd."""
    (binary,) = needed("a real etcd", "etcd")
    return binary.parent


@pytest.mark.timeout(600)
def test_the_example_keeps_the_contract_on_a_real_etcd(etcd: Path, tmp_path: Path) -> None:
    for path, text in standing(EXAMPLE).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (commands,) = typed("docs/writing-an-adapter.md", "7. Prove it")
    # As its author has it: of the plugins of pytest that are installed here, none.
    environ = surroundings(
        BINARIES, etcd, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="-rs -p no:cacheprovider"
    )
    closing = succeeds(commands, tmp_path, environ, within=540).splitlines()[-1]
    passed = re.match(r"(\d+) passed in ", closing)
    assert passed, f"not all passed: {closing}"
    written = re.search(r"^(\d+) passed in", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert written
    assert passed[1] == written[1], f"{PAGE.name} counts {written[1]} tests that pass, and there are {passed[1]}"


@pytest.mark.timeout(300)
def test_the_example_is_a_distribution_of_its_own_that_hamlet_finds(tmp_path: Path) -> None:
    source = tmp_path / "hamlet-etcd"
    for path, text in standing(EXAMPLE).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text, encoding="utf-8")
    target = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(target), str(source)], check=True, timeout=240)
    config = tmp_path / "hamlet.yaml"
    config.write_text(
        "mesh: {name: west, domain: west.example, trust_domain: west.example}\n"
        "identity: {certificate: a.crt, key: a.key}\n"
        "registries:\n  main: {kind: etcd, timeout: 2s, prefix: mesh/}\n"
    )
    for name in ("a.crt", "a.key"):
        (tmp_path / name).write_text("")

    def hamlet(*arguments: str) -> object:
        done = subprocess.run(
            [sys.executable, "-m", "hamlet_core", "-c", str(config), *arguments, "--json"],
            capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PYTHONPATH": str(target)},
        )  # fmt: skip
        return json.loads(done.stdout)

    found = hamlet("plugins")
    assert isinstance(found, list)
    (etcd,) = (each for each in found if each["name"] == "etcd")
    assert (etcd["distribution"], etcd["provides"], etcd["problem"]) == ("hamlet-etcd", ["registry"], None)
    checked = hamlet("config", "check")
    assert isinstance(checked, dict)
    assert checked["ok"], checked
