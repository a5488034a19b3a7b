"""From the text of a file in services/ to services, or to what is wrong with it: file, line and field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from hamlet_core.api import LocalService, in_words
from hamlet_file.schema import ServiceEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong in a file; `line` counts from 1, and is 0 where it is about the whole file.

    `until` says what counts until it is mended, where that is known.
    """

    file: str
    line: int = 0
    field: str = ""
    message: str
    until: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)


class Malformed(Exception):
    """A file that cannot be used; `problems` is everything that is wrong with it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def parse(file: str, content: bytes) -> tuple[LocalService, ...]:
    """Return the services of a file: each document is one, or a list of them. Raises `Malformed`.

    An empty file is malformed: it is what a program that is about to write leaves for a moment.
    """
    text = _decode(file, content)
    documents = _documents(file, text)
    if all(document is None for document in documents):
        raise Malformed(Problem(file=file, message="it is empty; delete it to withdraw its services, or write []"))
    services: list[LocalService] = []
    problems: list[Problem] = []
    for number, document in enumerate(documents):
        if document is None:
            continue
        listed = isinstance(document, list)
        for index, entry in enumerate(document if listed else [document]):
            try:
                services.append(ServiceEntry.model_validate(entry).to_local())
            except ValidationError as error:
                start = (index,) if listed else ()
                problems += _explain(file, text, number, start, error)
    if problems:
        raise Malformed(*problems)
    return tuple(services)


def _decode(file: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Malformed(Problem(file=file, line=line, message="it is not UTF-8 text")) from error


def _documents(file: str, text: str) -> Sequence[Any]:
    try:
        if file.endswith(".json") and text.strip():
            return [json.loads(text)]
        return list(YAML(typ="safe", pure=True).load_all(text))
    except json.JSONDecodeError as error:
        raise Malformed(Problem(file=file, line=error.lineno, message=f"no JSON: {error.msg}")) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        what = ", ".join(part for part in (error.context, error.problem) if part).splitlines()[0]
        raise Malformed(Problem(file=file, line=line, message=f"no YAML: {what}")) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise Malformed(Problem(file=file, message=f"no YAML: {str(error).splitlines()[0]}")) from error


def _explain(file: str, text: str, document: int, start: tuple[int, ...], error: ValidationError) -> list[Problem]:
    """What pydantic found, with the line of each field; only now is it worth finding the lines."""
    try:
        nodes = list(YAML(typ="safe", pure=True).compose_all(text))
    except YAMLError:  # JSON may be no YAML (tabs): then without lines
        nodes = []
    root = nodes[document] if document < len(nodes) else None
    problems = []
    for detail in error.errors(include_url=False):
        loc = (*start, *detail["loc"])
        message, mend = in_words(detail, quote=True)
        if detail["type"] == "extra_forbidden" and len(loc) <= 2:
            message = f"unknown key; known are {', '.join(ServiceEntry.model_fields)}"
        elif mend:
            message += f": {mend}"
        problems.append(Problem(file=file, line=_line(root, loc), field=_dotted(loc), message=message))
    return problems


def _line(node: Node | None, loc: Sequence[int | str]) -> int:
    """The line of the field at `loc`, or of the innermost thing around it that is in the file."""
    line = node.start_mark.line + 1 if node is not None else 0
    for part in loc:
        if isinstance(node, MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _dotted(loc: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")
