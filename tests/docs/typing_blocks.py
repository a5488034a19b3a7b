"""Shell blocks typed as they stand: which they are, in what surroundings; packages without an index. No tests."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.blocks import ROOT, blocks

PROJECTS = (ROOT, *sorted(ROOT.glob("plugins/*")), ROOT / "examples" / "hamlet-audit")
"""What is built as a wheel."""
OTHERS = ("hamlet-core", "hamlet-consul", "hamlet-istio", "hamlet-envoy[bundled]", "hamlet-audit", "hatchling")
"""Whose requirements a machine without an index has; hatchling is what builds a checkout."""
BINARIES = Path(sys.executable).parent
"""Where this environment has its commands, `hamlet` among them."""


def typed(page: str, heading: str) -> list[str]:
    """The shell blocks below a heading of a page, in their order."""
    found = [each.text for each in blocks(ROOT / page) if (each.language, each.heading) == ("sh", heading)]
    assert found, f"{page} has nothing to type below {heading!r}"
    return found


def surroundings(*path: Path, **more: str) -> dict[str, str]:
    """The variables of a shell that finds the commands of `path` before the machine's, and `more`.

    Nothing is there of this environment, of the tests' own settings, or of pip's.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTEST_", "PYTHON", "HAMLET_", "PIP_", "VIRTUAL_ENV"))
    }
    folders = [*map(str, path), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {**kept, **pip, "PATH": os.pathsep.join(folders), **more}


BASH = ("bash", "--norc", "-eo", "pipefail", "-c")
"""What goes before commands: the first that fails ends them."""


class Done(NamedTuple):
    """What came of commands: the exit code of the one that failed or of the last, and what was printed."""

    code: int
    said: str


def bash(commands: str, folder: Path, environ: Mapping[str, str], *, answers: str = "", within: float = 240) -> Done:
    """Type commands into a bash of their own in `folder`; the first that fails ends it."""
    done = subprocess.run(
        [*BASH, commands], cwd=folder, env=dict(environ), input=answers, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=within, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


def at_a_terminal(commands: str, environ: Mapping[str, str], answers: Sequence[tuple[str, str]]) -> Done:
    """Type commands at a terminal; whenever the next question of `answers` stands there, give its answer.

    Raises `AssertionError` when they end before the last question.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *BASH, commands], stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environ)
    )
    os.close(theirs)
    said, waiting = "", list(answers)
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if not part:
                break
            said += part.decode()
            if waiting and said.endswith(waiting[0][0]):
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not waiting, f"nobody asked {waiting[0][0]!r}: {said}"
    return Done(code, said)


def succeeds(commands: str, folder: Path, environ: Mapping[str, str], *, within: float = 240) -> str:
    """Type commands that must all succeed; what they printed."""
    done = bash(commands, folder, environ, within=within)
    assert done.code == 0, f"{commands}\nexit code {done.code}: {done.said}"
    return done.said


# --- packages ----------------------------------------------------------------------------------------------


def build_wheels(folder: Path) -> Path:
    """Make the wheel of every project in `folder`, by its own backend; `folder`."""
    for project in PROJECTS:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{project}: {done.stdout}{done.stderr}"
    return folder


def link_what_others_made(folder: Path, *roots: str, at: Path | None = None) -> None:
    """Fill `folder` with links to whatever `roots` require that is not ours, as this environment has it.

    With this folder in `PYTHONPATH`, pip finds those requirements satisfied, and installs ours alone. `at`: where
    this environment's packages will be when the links are followed.
    """
    for distribution in _required(roots):
        place = Path(str(distribution.locate_file("")))
        for name in {
            path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")
        }:
            link = folder / name
            if not link.is_symlink():
                link.symlink_to((at or place) / name)


def _required(roots: Iterable[str]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    open_ones = [Requirement(root) for root in roots]
    seen: set[str] = set()
    while open_ones:
        wanted = open_ones.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        distribution = importlib.metadata.distribution(wanted.name)
        if not canonicalize_name(wanted.name).startswith("hamlet-"):
            found[canonicalize_name(wanted.name)] = distribution
        for text in distribution.requires or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                open_ones.append(needed)
    return [found[name] for name in sorted(found)]
