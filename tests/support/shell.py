"""Pages typed as they stand: one shell that stays, the commands of a page, and what it shows that they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DURATION = re.compile(r"\b\d+(\.\d+)?(ms|s|m|h)\b")
"""What differs each time: how long something took."""
CHANGING = re.compile(rf"{DURATION.pattern}|\S*…\S*")
"""The same, and what the page leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Commands to type, and the words that must appear."""

    commands: str
    shown: frozenset[str]


def steps(text: str) -> list[Step]:
    """The commands of a page in their order, each with the output that follows it."""
    blocks = BLOCK.findall(text)
    after = [*blocks[1:], ("", "")]
    return [
        Step(commands=commands, shown=words(following) if kind_after == "text" else frozenset())
        for (kind, commands), (kind_after, following) in zip(blocks, after, strict=True)
        if kind == "sh"
    ]


def taken(text: str) -> set[tuple[str, str]]:
    """The blocks of a page that `steps` reads, commands or output: language and text of each."""
    blocks = BLOCK.findall(text)
    before = ["", *(kind for kind, _ in blocks)]
    return {(kind, shown) for last, (kind, shown) in zip(before, blocks, strict=False) if "sh" in (kind, last)}


def as_shown(shown: str, printed: str) -> bool:
    """Whether what was printed is what a page shows, line by line, but for the widths of columns.

    `…` stands for the rest of a word, of a line, or, on a line of its own, for any lines. What changes each time
    (`DURATION`), rules and empty lines do not count.
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n" for line in _lines(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    lines = [" ".join(DURATION.sub("", line).split()) for line in text.splitlines()]
    return [line for line in lines if line.strip("─ ")]


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

    def follow(self, page: Sequence[Step], *, within: float, absent: frozenset[str] = frozenset()) -> None:
        """Type the steps of a page. What shows something is typed until it does; anything else must succeed.

        `absent` are words that a step must not print unless the page shows them.
        """
        for step in page:
            deadline = time.monotonic() + within
            while True:
                code, output = self.type(step.commands)
                if not step.shown:
                    assert code == 0, f"{step.commands}\nexit code {code}: {output}"
                    break
                wrong = (step.shown - words(output)) | (words(output) & absent - step.shown)
                if not wrong:
                    break
                assert time.monotonic() < deadline, f"{step.commands}\nnot as on the page: {sorted(wrong)}: {output}"
                time.sleep(0.05)


@contextmanager
def shell(folder: Path, *, path: Sequence[Path] = (), environ: Mapping[str, str] | None = None) -> Iterator[Shell]:
    """A shell in `folder` with our commands, and those of `path` before them; it ends with all it has started."""
    folders = [*map(str, path), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, **(environ or {}), "PATH": os.pathsep.join(folders)}
    environment.pop("HAMLET_CONFIG", None)
    process = subprocess.Popen(
        ["bash", "--norc"], cwd=folder, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Shell(process)
    finally:
        with suppress(ProcessLookupError):  # the shell and what it put in the background: a session of their own
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
