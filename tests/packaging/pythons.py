"""Which Pythons the packages claim, where this machine has them, and what is not run there. Installs none."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.packaging.clean import ROOT

CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def claimed(project: Path = ROOT) -> tuple[str, ...]:
    """The versions ("3.11") that the classifiers of a project name, the oldest first."""
    classifiers = tomllib.loads((project / "pyproject.toml").read_text())["project"].get("classifiers", ())
    found = (match[1] for each in classifiers if (match := CLASSIFIER.fullmatch(each)))
    return tuple(sorted(found, key=_numbers))


def interpreter(version: str, *, path: Iterable[Path], pyenv: Path) -> Path | None:
    """A CPython of `version` that can make virtual environments: on `path`, else in pyenv's folder, else none.

    pyenv puts a `python3.12` on the path that only works where that version is chosen, so each one found is asked.
    """
    return next((each for each in _candidates(version, path, pyenv) if _answers(each, version)), None)


def _candidates(version: str, path: Iterable[Path], pyenv: Path) -> Iterator[Path]:
    yield from (folder / f"python{version}" for folder in path)
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), key=lambda found: _numbers(str(found)))[::-1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _answers(python: Path, version: str) -> bool:
    """Whether it is that version of the usual build: not free-threaded, not for debugging; with `venv` and pip."""
    asked = "import sys, venv, ensurepip; print(sys.implementation.cache_tag + sys.abiflags)"
    try:
        done = subprocess.run([python, "-I", "-c", asked], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f"cpython-{version.replace('.', '')}"


CLAIMED = claimed()
OURS = "{}.{}".format(*sys.version_info)
LEFT_OUT = (
    # Most of the time, and of other programs than Python: they start Envoy, mypy, ruff, whole contracts.
    *(
        f"plugins/envoy/tests/test_envoy_{name}.py"
        for name in ("calls", "contract", "life", "refusals", "verification")
    ),
    "plugins/consul/tests/test_consul_gateway_contract.py",
    "tests/unit/cli/test_new_adapter.py",
    *(f"tests/unit/cli/test_verify_{name}.py" for name in ("adapter", "gateways", "refusals")),
    # They wait for leases to run out, which is most of what would be left.
    "plugins/file/tests/test_file_coordinator.py",
    "tests/contract/test_coordinator_contract_finds_faults.py",
)
