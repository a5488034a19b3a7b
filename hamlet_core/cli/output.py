"""What commands print and ask: tables for people on a terminal, one JSON document for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from hamlet_core.cli.printable import printable
from hamlet_core.cli.tables import Listing

WIDE = 100_000
"""Columns where there is no terminal: nothing that a program reads is cut off or wrapped."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
"""For commands that have something for programs to read; the argument is `as_json`."""


def console(*, stderr: bool = False) -> Console:
    """A console for standard output or error: colours on a terminal alone (NO_COLOR turns them off)."""
    file = sys.stderr if stderr else sys.stdout
    return Console(file=file, width=None if file.isatty() else WIDE, markup=False, highlight=False, emoji=False)


def emit(data: object, render: Callable[[Console], object], *, as_json: bool) -> None:
    """Print `data` as one JSON document, or let `render` print it for a person."""
    if as_json:
        click.echo(json.dumps(data, indent=2, default=_plain))
    else:
        render(console())


def ask_first(question: str) -> None:
    """Ask on standard error; "no" ends the command. Raises `UsageError` where nobody is there to answer."""
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as abort:
        if not isinstance(abort.__context__, EOFError):
            raise
        click.echo(err=True)
        message = "nobody has answered; give --yes where there is nobody to ask"
        raise click.UsageError(message) from None


def table(*columns: str, rows: Iterable[Iterable[object]], notes: int = 1) -> Listing:
    """A table of plain text; None is an empty cell. Cells are data: no markup, no control characters.

    The last `notes` columns are sentences, which a narrow terminal shows below their row.
    """
    texts = (tuple(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row) for row in rows)
    return Listing(headings=columns, rows=tuple(texts), notes=notes)


def styled(text: object, style: str) -> Text:
    """Data in a colour, for a cell or a line."""
    return Text(_cell(text), style=style)


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))


def _plain(value: object) -> Any:
    """What JSON has no form for: times in ISO 8601, durations in seconds."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    message = f"{type(value).__name__} has no form in JSON"
    raise TypeError(message)
