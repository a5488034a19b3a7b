"""Clean environments: wheels by their own backend, a virtual environment of some Python, commands in that alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "core": ROOT,
    **{name: ROOT / "plugins" / name for name in ("file", "consul", "istio", "envoy")},
    "audit": ROOT / "examples" / "hamlet-audit",
}
"""The folder of every distribution of this tree that the development environment has."""
ALL = {**PROJECTS, "etcd": ROOT / "examples" / "hamlet-etcd"}
"""Those, and the one that the tutorial for authors writes."""


def package(name: str) -> Path:
    """The folder of the package that the distribution `name` of `ALL` brings."""
    return ROOT / "hamlet_core" if name == "core" else ALL[name] / "src" / f"hamlet_{name}"


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run(*command: object, cwd: Path, timeout: float = 600) -> Done:
    """Run a command in `cwd` without this environment's own settings in its way."""
    environ = {
        key: value
        for key, value in os.environ.items()
        if key == "PYTEST_DEBUG_TEMPROOT" or not key.startswith(("PYTEST_", "PYTHON", "HAMLET_"))
    }
    environ["PATH"] = "/usr/bin:/bin"
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def wheel(project: Path, target: Path) -> Path:
    """Build the wheel of `project` into the empty folder `target`, in this environment; return its file."""
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=project)
    assert built.code == 0, built
    (made,) = target.glob("*.whl")
    return made


def environment(place: Path, *wanted: object, python: Path = Path(sys.executable)) -> Path:
    """Make `place`/venv of an interpreter with what pip is asked for; return its folder of programs."""
    assert (made := run(python, "-m", "venv", place / "venv", cwd=place)).code == 0, made
    binaries = place / "venv" / "bin"
    add(binaries, *wanted)
    return binaries


def add(binaries: Path, *wanted: object) -> None:
    """Install into an environment; nothing is compiled ahead, as most of it is never imported."""
    pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")
    assert (installed := run(*pip, *wanted, cwd=binaries)).code == 0, installed
