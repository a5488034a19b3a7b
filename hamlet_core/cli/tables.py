"""Tables for people: as wide as they are where there is room, and readable where there is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_GAP = 3
"""Columns that rich puts between two cells."""
_INDENT = 4
READABLE = 160
"""A terminal may be wider; nobody reads rows that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Rows under headings; the last `notes` columns hold sentences.

    Where the terminal is too narrow, empty columns are left out, then the notes are written below their row,
    and only then is a cell broken. Where it is wide, rows longer than `READABLE` have their notes wrapped.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    notes: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table in the form that fits; see the class."""
        everything = list(range(len(self.headings)))
        room = min(options.max_width, READABLE) if console.is_terminal else options.max_width
        if _width(self._widths(everything)) <= room:
            yield self._table(everything, self.rows)
            return
        used = [column for column in everything if any(row[column].plain for row in self.rows)]
        widths = self._widths(used)
        if _width(widths) <= room or not self.notes:
            yield self._table(used, self.rows)
            return
        short = [column for column in used if column < len(self.headings) - self.notes]
        if console.is_terminal and options.max_width >= READABLE and _width(self._widths(short)) <= READABLE // 2:
            yield self._table(used, self.rows, width=READABLE)
            return
        table = self._table(short, self.rows)
        # Each row is a table of its own, so that its notes can stand below it: the columns keep their widths.
        fits = _width(self._widths(short)) <= options.max_width
        drawn = console.render_lines(table, options, pad=False)
        if not fits:
            yield self._table(used, self.rows)
            return
        heading, rows = drawn[:2], drawn[2:]
        if sum(bool(self.headings[column]) for column in short) > 1:  # else it would stand above other things, too
            for line in heading:
                yield from line
                yield Text("\n", end="")
        for line, row in zip(rows, self.rows, strict=True):
            yield from line
            yield Text("\n", end="")
            for column in used:
                if column not in short and row[column].plain:
                    yield Padding(row[column], (0, 0, 0, _INDENT))

    def _widths(self, columns: Sequence[int]) -> list[int]:
        return [
            max(
                cell_len(line)
                for text in (self.headings[column], *(row[column].plain for row in self.rows))
                for line in text.split("\n")
            )
            for column in columns
        ]

    def _table(self, columns: Sequence[int], rows: Iterable[tuple[Text, ...]], width: int | None = None) -> Table:
        """With a `width`, what is too long for it wraps in the notes alone."""
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", width=width)
        for column in columns:
            is_note = column >= len(self.headings) - self.notes
            made.add_column(self.headings[column], overflow="fold", no_wrap=width is not None and not is_note)
        for row in rows:
            made.add_row(*(row[column] for column in columns))
        return made


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * max(0, len(widths) - 1)
