"""A scaffolded adapter beside a built hamlet-core in a clean environment: it installs, is found, keeps the rules."""

import json
import os
import sys

import pytest

from tests.packaging.clean import add, environment, run

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("scaffold")]


def output(*command, cwd):
    """What a command printed that must succeed."""
    done = run(*command, cwd=cwd)
    assert done.code == 0, f"{command}\n{done.out}\n{done.err}"
    return done.out


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """The folder of the project, and the environment that has nothing but it, the core's wheel and pytest."""
    place = tmp_path_factory.mktemp("scaffold")
    binaries = environment(place, f"{wheels['core']}[testing]")
    output(binaries / "hamlet", "new-adapter", "shelf", cwd=place)
    add(binaries, place / "hamlet-shelf")
    return place / "hamlet-shelf", binaries


def test_it_is_listed_among_the_plugins(installed):
    project, binaries = installed
    (listed,) = json.loads(output(binaries / "hamlet", "plugins", "--json", cwd=project.parent))
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
    pytest_there = (binaries / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    said = output(*pytest_there, "-o", "pythonpath=.", cwd=project)
    assert " passed" in said
    assert "failed" not in said


def test_its_types_are_those_of_the_installed_core(installed):
    project, binaries = installed
    mypy = (sys.executable, "-m", "mypy", "--cache-dir", os.devnull)
    output(*mypy, "--python-executable", binaries / "python", cwd=project)


def test_its_live_verification_runs_every_check(installed):
    project, binaries = installed
    (project / "hamlet.yaml").write_text(
        "mesh: {name: west, domain: west.example, trust_domain: west.example}\n"
        "identity: {certificate: a.crt, key: a.key}\n"
        "registries:\n  main: {kind: shelf}\n"
    )
    command = ["verify-adapter", "shelf", "--yes", "--json"]
    report = json.loads(output(binaries / "hamlet", *command, cwd=project))
    assert (report["failed"], report["not_run"], report["subjects"][0]["left_behind"]) == (0, 0, [])
    assert report["passed"] > 30
