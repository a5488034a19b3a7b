"""A scaffolded adapter beside a built hamlet-core in a clean environment: it installs, is found, keeps the rules."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("scaffold")]


def run(*command, cwd, timeout=600):
    """Run a command without this environment's own settings in its way; return what it printed."""
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON", "HAMLET_"))
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("scaffold")


@pytest.fixture(scope="module")
def installed(place):
    """The folder of the project, and the environment that has nothing but it, the core's wheel and pytest."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist", cwd=ROOT)
    (wheel,) = (place / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    binaries = place / "venv" / "bin"
    pip = [binaries / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, f"{wheel}[testing]", cwd=place)
    run(binaries / "hamlet", "new-adapter", "shelf", cwd=place)
    run(*pip, place / "hamlet-shelf", cwd=place)
    return place / "hamlet-shelf", binaries


def test_it_is_listed_among_the_plugins(installed):
    project, binaries = installed
    (listed,) = json.loads(run(binaries / "hamlet", "plugins", "--json", cwd=project.parent))
    assert listed == {
        "name": "shelf",
        "distribution": "hamlet-shelf",
        "version": "0.1.0",
        "provides": ["registry"],
        "summary": "shelf as a registry",
        "problem": None,
    }


def test_its_tests_pass(installed):
    project, binaries = installed
    said = run(binaries / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=.", cwd=project)
    assert " passed" in said
    assert "failed" not in said


def test_its_types_are_those_of_the_installed_core(installed):
    project, binaries = installed
    run(
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        os.devnull,
        "--python-executable",
        binaries / "python",
        cwd=project,
    )


def test_its_live_verification_runs_every_check(installed):
    project, binaries = installed
    (project / "hamlet.yaml").write_text(
        "mesh: {name: west, domain: west.example, trust_domain: west.example}\n"
        "identity: {certificate: a.crt, key: a.key}\n"
        "registries:\n  main: {kind: shelf}\n"
    )
    command = ["verify-adapter", "shelf", "--yes", "--json", "--backend", "tests.backend:make"]
    report = json.loads(run(binaries / "hamlet", *command, cwd=project))
    assert (report["failed"], report["not_run"], report["subjects"][0]["left_behind"]) == (0, 0, [])
    assert report["passed"] > 30
