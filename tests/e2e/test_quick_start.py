"""The quick start of README.md, typed as it stands there: every command works, and shows what the page shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.meshes import PATIENCE
from tests.support.ports import free_port

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGING = re.compile(r"\d+(s|ms|m|h)\b")
"""Durations: how long something took, or has lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Commands to type, and the words that must appear."""

    commands: str
    shown: frozenset[str]


def steps(page: str) -> list[Step]:
    """The commands of the quick start in their order, each with the output that follows it."""
    section = page.partition("## Quick start by hand\n")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(section)
    after = [*blocks[1:], ("", "")]
    return [
        Step(commands=text, shown=words(following) if kind_after == "text" else frozenset())
        for (kind, text), (kind_after, following) in zip(blocks, after, strict=True)
        if kind == "sh"
    ]


def words(text: str) -> frozenset[str]:
    return frozenset(word for word in CHANGING.sub("", text).split() if not word.startswith("─"))


@dataclass
class Shell:
    """One bash that stays, as a person has it: what is put in the background goes on."""

    process: subprocess.Popen[str]

    def type(self, commands: str) -> tuple[int, str]:
        """Run commands; returns the exit code of the last one, and what all of them printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f'{{\n{commands}}} 2>&1\necho "=== $?"\n')
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith("=== "):
                return int(line.removeprefix("=== ")), "".join(lines)
            lines.append(line)
        message = f"bash ended: {''.join(lines)}"
        raise AssertionError(message)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    environment.pop("HAMLET_CONFIG", None)
    process = subprocess.Popen(
        ["bash", "--norc"], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield Shell(process)
    with suppress(ProcessLookupError):  # the shell and what it put in the background: a session of their own
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.mark.timeout(600)
def test_the_quick_start_works_as_it_stands(shell: Shell) -> None:
    page = README.read_text(encoding="utf-8")
    ports = {number: str(free_port()) for number in ("8008", "9008", "9009")}
    for number, free in ports.items():
        page = re.sub(rf"\b127\.0\.0\.1:{number}\b", f"127.0.0.1:{free}", page)
    west = f"listen: 127.0.0.1:{ports['8008']}\n"
    page = page.replace(west, f"{west}admin: {{http: null}}\n")  # its default port may be taken
    found = steps(page)
    assert len(found) > 10
    for step in found:
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            code, output = shell.type(step.commands)
            if not step.shown:
                assert code == 0, f"{step.commands}\nexit code {code}: {output}"
                break
            wrong = (step.shown - words(output)) | (words(output) & {"orders.west.example"} - step.shown)
            if not wrong:
                break
            assert time.monotonic() < deadline, f"{step.commands}\nnot as on the page: {sorted(wrong)}: {output}"
            time.sleep(0.05)
