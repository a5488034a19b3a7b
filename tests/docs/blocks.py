"""The blocks of code of a page: what each is, where it stands, and files that blocks make or change. No tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_OPEN = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w.+-]*)(?: title=\"(?P<title>[^\"]*)\")?(?P<rest>.*)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block: its `page` (a path from the root), the `line` of its fence, its language, title, heading and text."""

    page: str
    line: int
    language: str
    title: str
    heading: str
    text: str

    @property
    def where(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the site and of the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")]
    return sorted([*found, *ROOT.glob("examples/*/README.md")])


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order; one that is not closed, or has an unknown info string, is an error."""
    return list(_blocks(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: str, lines: Sequence[str]) -> Iterator[Block]:
    heading = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        opened = _OPEN.match(line)
        if opened is None:
            continue
        begin = number
        assert not opened["rest"].strip(), f"{page}:{begin}: what is {opened['rest']!r} behind the fence?"
        closing = opened["indent"] + opened["fence"]
        assert closing in lines[number:], f"{page}:{begin}: the block is not closed"
        number = lines.index(closing, number) + 1
        inner = [each.removeprefix(opened["indent"]) for each in lines[begin : number - 1]]
        yield Block(
            page=page, line=begin, language=opened["language"], title=opened["title"] or "", heading=heading,
            text="".join(f"{each}\n" for each in inner),
        )  # fmt: skip


def make(files: dict[str, str], shown: Sequence[Block]) -> dict[str, str]:
    """The files of a project after what the blocks show, in their order.

    A block whose title is a path is that file; more blocks of the same path go on where the first ended. A `diff`
    changes the file: the lines that it shows (but those with `+`) stand in the file exactly once.
    """
    made = dict(files)
    begun: set[str] = set()
    for block in shown:
        path = block.title
        if block.language == "diff":
            assert path in made, f"{block.where}: there is no {path} to change"
            made[path] = _changed(made[path], block)
        elif path in begun:
            # Blank lines at the end of a block would be lost on the page: two before what begins at the margin.
            made[path] += ("\n" if block.text.startswith(" ") else "\n\n") + block.text
        else:
            made[path] = block.text
            begun.add(path)
    return made


def _changed(text: str, block: Block) -> str:
    lines = block.text.splitlines()
    wrong = [line for line in lines if line[:1] not in ("", " ", "+", "-")]
    assert not wrong, f"{block.where}: {wrong[0]!r} is neither context nor a change"
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    places = [match.start() for match in re.finditer(f"^{re.escape(old)}", text, re.MULTILINE)]
    assert len(places) == 1, f"{block.where}: it stands {len(places)} times in {block.title}, not once:\n{old}"
    return text[: places[0]] + new + text[places[0] + len(old) :]
