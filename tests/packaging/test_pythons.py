"""Every Python that the packages claim: found, and shown by running the wheels' code under it."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.backends.not_run import NOT_RUN
from tests.packaging.clean import PROJECTS, ROOT, environment, run
from tests.packaging.pythons import claimed, interpreter

CLAIMED = claimed()
OURS = "{}.{}".format(*sys.version_info)
EXTRAS = {"core": "[testing]", "envoy": "[bundled]"}
SHOWN = ("tests/unit", "tests/contract", "tests/integration/tls", "plugins", "examples/hamlet-audit")
LEFT_OUT = (
    # Most of the time, and of other programs than Python: they start Envoy, mypy, ruff, whole contracts.
    *(
        f"plugins/envoy/tests/test_envoy_{name}.py"
        for name in ("calls", "contract", "life", "refusals", "verification")
    ),
    "plugins/consul/tests/test_consul_gateway_contract.py",
    "tests/unit/cli/test_new_adapter.py",
    "tests/unit/cli/test_verify_adapter.py",
    # They wait for leases to run out, which is most of what would be left.
    "plugins/file/tests/test_file_coordinator.py",
    "tests/contract/test_coordinator_contract_finds_faults.py",
)
TOOLS = re.compile("pytest|hypothesis|jsonschema|common-expression-language")
"""What of requirements-dev.txt those tests import; the rest checks the code, which needs one Python."""
TEMPLATE = ROOT / "hamlet_core" / "cli" / "templates" / "adapter"


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_only_seems_to_be_there_is_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "shims" / "python3.12", "exit 127")
    executable(tmp_path / "other" / "python3.12", "echo cpython-311")
    (tmp_path / "empty").mkdir()
    path = [tmp_path / name for name in ("missing", "empty", "shims", "other")]
    assert interpreter("3.12", path=path, pyenv=tmp_path / "pyenv") is None
    right = executable(tmp_path / "right" / "python3.12", "echo cpython-312")
    assert interpreter("3.12", path=[*path, right.parent], pyenv=tmp_path / "pyenv") == right


def test_pyenv_gives_the_newest_of_a_version_that_is_of_the_usual_build(tmp_path: Path) -> None:
    for name, says in (("3.12.9", "312"), ("3.12.10", "312"), ("3.12.11t", "312t"), ("3.13.0", "313")):
        executable(tmp_path / "versions" / name / "bin" / "python", f"echo cpython-{says}")
    found = interpreter("3.12", path=[], pyenv=tmp_path)
    assert found == tmp_path / "versions" / "3.12.10" / "bin" / "python"


def test_the_python_of_this_run_is_claimed_and_found_where_it_is(tmp_path: Path) -> None:
    assert OURS in CLAIMED
    (tmp_path / f"python{OURS}").symlink_to(sys.executable)
    assert interpreter(OURS, path=[tmp_path], pyenv=tmp_path) == tmp_path / f"python{OURS}"


def test_what_is_left_out_is_there() -> None:
    assert [name for name in LEFT_OUT if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("name", [*PROJECTS, "etcd"])
def test_every_distribution_requires_the_oldest_python_that_is_claimed(name: str) -> None:
    project = PROJECTS.get(name, ROOT / "examples" / f"hamlet-{name}")
    required = tomllib.loads((project / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={CLAIMED[0]}"
    assert claimed(project) in {(), CLAIMED}, "classifiers that differ from the core's"


def test_tools_pages_and_the_scaffold_speak_of_the_pythons_that_are_claimed() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["python_version"] == CLAIMED[0]
    assert tools["ruff"]["target-version"] == f"py{CLAIMED[0].replace('.', '')}"
    for page in ("README.md", "CONTRIBUTING.md"):
        assert re.findall(r"Python (3\.\d+)\s+or\s+newer", (ROOT / page).read_text()) == [CLAIMED[0]], page
    matrix = re.search(r"python: \[(.*)\]", (TEMPLATE / "ci.yml.template").read_text())
    assert matrix is not None
    assert tuple(re.findall(r'"(.+?)"', matrix[1])) == CLAIMED
    assert f'requires-python = ">={CLAIMED[0]}"' in (TEMPLATE / "pyproject.toml.template").read_text()


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("pythons")  # one after the other
@pytest.mark.parametrize("version", [each for each in CLAIMED if each != OURS])
def test_the_wheels_pass_their_tests_under_each_other_python_that_is_claimed(
    version: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    python = interpreter(version, path=map(Path, os.get_exec_path()), pyenv=pyenv)
    if python is None:
        # Not `leave_out`: which Pythons a machine has is its owner's choice, and no fault of what is tested.
        pytest.skip(f"{NOT_RUN} Python {version} is claimed, and neither on the path nor among those of {pyenv}")
    listed = (ROOT / "requirements-dev.txt").read_text().splitlines()
    (tmp_path / "tools.txt").write_text("\n".join(line for line in listed if TOOLS.match(line)))
    built = [f"{wheels[name]}{EXTRAS.get(name, '')}" for name in PROJECTS]
    binaries = environment(tmp_path, *built, "-r", tmp_path / "tools.txt", python=python)
    # The tests come from the checkout, the code from the wheels: what a .pth file names is looked at last.
    (packages,) = tmp_path.glob("venv/lib/*/site-packages")
    (packages / "checkout.pth").write_text(f"{ROOT}\n")
    alone = ("--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "-o", "pythonpath=", "-p", "no:cacheprovider")
    chosen = [*(ROOT / name for name in SHOWN), *(f"--ignore={ROOT / name}" for name in LEFT_OUT)]
    # Much of it is waiting; but each worker collects everything before it begins.
    pytest_there = (binaries / "pytest", "-q", "-n", "4", "--dist", "worksteal", *alone)
    done = run(*pytest_there, "-p", "tests.packaging.installed", *chosen, cwd=tmp_path, timeout=800)
    assert done.code == 0, done.out + done.err
    passed = re.search(r"(\d+) passed", done.out)
    assert passed is not None, done.out
    assert int(passed[1]) > 2000, done.out
    assert NOT_RUN not in done.out
