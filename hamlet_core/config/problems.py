"""What is wrong with a configuration: all of it at once, each with its file, line, key and mend.

It turns pydantic's errors into such problems, without the values that must not be shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hamlet_core.api import in_words
from hamlet_core.api.errors import ConfigError
from hamlet_core.api.wording import SENTENCES
from hamlet_core.config.keys import allowed_keys, description
from hamlet_core.config.references import Referenced
from hamlet_core.config.values import Inconsistent, Loc


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. `where` is `file:line` or `file`; `key` is `peers.east.retain`, or empty."""

    where: str
    key: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        parts = [self.where, self.key, self.message]
        return ": ".join(part for part in parts if part) + (f" ({self.mend})" if self.mend else "")


class ConfigProblems(ConfigError):
    """A configuration that cannot be used; `problems` is everything that is wrong with it, by line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: _line(problem.where)))
        super().__init__("\n".join(map(str, self.problems)))
        self.where = self.problems[0].where


def _line(where: str) -> int:
    line = where.rpartition(":")[2]
    return int(line) if line.isascii() and line.isdigit() else 0


def dotted(loc: Loc) -> str:
    """Write a place as people do: `publish[0].to`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def undotted(key: str) -> Loc:
    """Read what `dotted` wrote."""
    parts = re.findall(r'\["(.*?)"\]|\[(\d+)\]|([^.\[\]]+)', key)
    return tuple(int(index) if index else quoted or plain for quoted, index, plain in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the keys of a file stand, and which of its values are references."""

    name: str
    lines: Mapping[Loc, int]
    references: Mapping[Loc, Referenced]

    def locate(self, loc: Loc) -> str:
        """`file:line` of a key; of the nearest key above it where it is not in the file."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return f"{self.name}:{self.lines.get(loc, 1)}"

    def problem(self, loc: Loc, message: str, mend: str = "") -> Problem:
        """A problem at `loc`."""
        return Problem(where=self.locate(loc), key=dotted(loc), message=message, mend=mend)

    def explain(self, error: ValidationError, model: type[BaseModel], at: Loc = ()) -> tuple[Problem, ...]:
        """Say what pydantic found in the data at `at`, which it read as a `model`."""
        found: dict[tuple[Loc, str], Problem] = {}
        for details in error.errors(include_url=False, include_input=True):
            for loc, message, mend in self._each(details, model, at):
                found.setdefault((loc, message), self.problem(loc, message, mend))
        return tuple(found.values())

    def _each(self, details: ErrorDetails, model: type[BaseModel], at: Loc) -> Iterator[tuple[Loc, str, str]]:
        kind, context = details["type"], details.get("ctx", {})
        loc = self._in_file(at, details["loc"], keep_last=kind == "missing")
        cause = context.get("error")
        if isinstance(cause, Inconsistent):
            for within, message in cause.problems:
                yield (*loc, *within), self._masked(message, loc), ""
            return
        reference = self.references.get(loc)
        if reference is not None and kind not in SENTENCES:
            yield loc, f"what {reference.reference} stands for is not right here", description(model, loc[len(at) :])
            return
        message, mend = in_words(details, quote=not at and reference is None)
        if kind == "missing":
            mend = description(model, loc[len(at) :])
        elif kind == "extra_forbidden":
            mend = _suggestion(str(loc[-1]), allowed_keys(model, loc[len(at) : -1]))
        yield loc, self._masked(message, loc), mend

    def _in_file(self, at: Loc, found: Loc, *, keep_last: bool) -> Loc:
        """The place as the file has it: without the names that pydantic gives to the members of a union."""
        loc = at
        for number, part in enumerate(found, 1):
            if (*loc, part) in self.lines or (keep_last and number == len(found)):
                loc = (*loc, part)
        return loc

    def _masked(self, message: str, loc: Loc) -> str:
        """Put each reference in the place of what it stands for: a rule about several keys may quote them."""
        values = [value for place, value in self.references.items() if place[: len(loc)] == loc and str(value)]
        for value in sorted(values, key=len, reverse=True):
            for form in {str(value), repr(str(value))[1:-1]}:
                message = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", lambda _, it=value: it.reference, message)  # type: ignore[misc]
        return message


def _suggestion(key: str, allowed: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key.lower(), allowed, n=1)
    start = f"did you mean {close[0]}? " if close else ""
    return f"{start}allowed here: {', '.join(allowed)}"
