"""What docs/tutorial-consul-istio.md tells its readers to write and to type: what is tested is what stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial-consul-istio.md"
_FILE = re.compile(r'^```\w+ title="(?P<path>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """The files by path: blocks with a title."""
    return {block["path"]: block["text"] for block in _FILE.finditer(PAGE.read_text())}


def commands(section: int) -> str:
    """What is typed in the section of this number: its blocks of the language `sh`."""
    _, _, rest = PAGE.read_text().partition(f"\n## {section}. ")
    found = _TYPED.findall(rest.partition("\n## ")[0])
    if not found:
        message = f"{PAGE.name} has nothing to type in section {section}"
        raise ValueError(message)
    return "".join(found)


def typed(section: int, folder: Path, *programs: Path, **environ: str) -> None:
    """Type a section in `folder`; `programs` are found beside those of this machine. A command that fails raises."""
    path = [*(str(program.parent) for program in programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(section)],
        cwd=folder,
        env={**os.environ, **environ, "PATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        message = f"section {section} of {PAGE.name}: {done.stdout}{done.stderr}"
        raise RuntimeError(message)


def replaced(text: str, places: Mapping[str, str]) -> str:
    """The text with what differs in a test; each must occur, so that an edit of the page is noticed here."""
    for old, new in places.items():
        if old not in text:
            message = f"{PAGE.name} says {old!r} no more"
            raise ValueError(message)
        text = text.replace(old, new)
    return text
