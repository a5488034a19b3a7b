"""What docs/tutorial-consul-istio.md tells its readers to write and to type: what is tested is what stands there.

A block of commands says in its title where it is typed; a `text` that follows it is what it prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.docs.blocks import ROOT, Block, blocks
from tests.support.shell import as_shown

PAGE = "docs/tutorial-consul-istio.md"
ELSEWHERE = frozenset({"downloads packages"})
"""Titles of commands that are typed by another test."""


@dataclass(frozen=True, slots=True)
class Step:
    """Commands to type at one place, and what they print where the page shows it."""

    commands: Block
    shown: Block | None


BLOCKS = blocks(ROOT / PAGE)
STEPS = [
    Step(each, after if after is not None and (after.language, after.title) == ("text", "") else None)
    for each, after in pairwise([*BLOCKS, None])
    if each is not None and each.language == "sh" and each.title not in ELSEWHERE
]
READ = [
    *(each for each in BLOCKS if each.language != "sh" and "/" in each.title),
    *(each for step in STEPS for each in (step.commands, step.shown) if each is not None),
]
"""The blocks of the page that are written or typed in here."""
TYPED: set[Step] = set()
"""Those that have been typed in this process."""


def files() -> dict[str, str]:
    """The files by path: blocks whose title is one."""
    return {each.title: each.text for each in READ if "/" in each.title}


def steps(heading: str, place: str) -> list[Step]:
    """What is typed below a heading at a place: `west`, `a workload of east`. None is an error."""
    found = [each for each in STEPS if (each.commands.heading, each.commands.title) == (heading, place)]
    if not found:
        message = f"{PAGE} has nothing to type below {heading!r} in {place}"
        raise ValueError(message)
    return found


def typed(
    step: Step,
    folder: Path,
    environ: Mapping[str, str],
    *,
    within: float = 60.0,
    places: Mapping[str, str] | None = None,
) -> str:
    """Type one step in `folder`; what it printed. What shows something is typed until it does, `within` seconds.

    `environ` goes before this process's own; `places` is what differs in what is shown. Raises `RuntimeError` for
    commands that fail, or print something else.
    """
    TYPED.add(step)
    deadline = time.monotonic() + within
    shown = step.shown.text if step.shown else None
    for old, new in (places or {}).items():
        shown = shown.replace(old, new) if shown else shown
    while True:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.commands.text],
            cwd=folder, env=surroundings(environ), text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if as_shown(shown, done.stdout) if shown is not None else done.returncode == 0:
            return done.stdout
        if shown is None or time.monotonic() > deadline:
            message = f"{step.commands.where}: {step.commands.text}\nexit code {done.returncode}: {done.stdout}"
            raise RuntimeError(message if shown is None else f"{message}\nthe page shows:\n{shown}")
        time.sleep(0.1)


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of whoever types: this process's own and `environ`; our commands are found first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.environ["PATH"])])
    kept = {key: value for key, value in os.environ.items() if key != "HAMLET_CONFIG"}
    return {**kept, **environ, "PATH": path}


def replaced(text: str, places: Mapping[str, str]) -> str:
    """The text with what differs in a test; each must occur, so that an edit of the page is noticed here."""
    for old, new in places.items():
        if old not in text:
            message = f"{PAGE} says {old!r} no more"
            raise ValueError(message)
        text = text.replace(old, new)
    return text
