"""The form of the files that we write: YAML for people, with a mark by which we know them again.

The checksum is the last line and covers all before it, so that every edit is seen. Files as we wrote them
are read by a few lines of code; those that someone edited, whatever they have become, by the YAML library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_MARK = "\nmark:\n"
# What YAML allows in a quoted text only as an escape, or reads as the end of a line.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A file with our mark: the texts of its mark and of its own keys; `intact`: it is as it was written."""

    mark: Mapping[str, str]
    texts: Mapping[str, str]
    intact: bool


def scalar(value: object) -> str:
    """A value in one line; JSON is a part of YAML, but for some characters."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def render(comment: str, content: Mapping[str, object], mark: Mapping[str, str]) -> str:
    """Write `content`, lists of mappings one item a line, and the mark below it."""
    lines = [f"# {comment}"]
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", *(f"  - {scalar(item)}" for item in value)]
        else:
            lines.append(f"{key}: {scalar(value)}")
    lines += ["mark:", *(f"  {key}: {scalar(value)}" for key, value in mark.items())]
    text = "\n".join(lines) + "\n"
    return text + _checksum_line(text)


def read(text: str) -> Marked | None:
    """Find the mark in a file; None where there is none that can be read."""
    summed = text.rpartition("  checksum: ")[0]
    body, found, block = summed.rpartition(_MARK)
    try:
        if found and text == summed + _checksum_line(summed):
            return Marked(mark=_texts(block, indent="  "), texts=_texts(body), intact=True)
    except ValueError:
        pass  # bytes that are no text
    return _read_edited(text)


def _read_edited(text: str) -> Marked | None:
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):
        return None
    mark = document.get("mark") if isinstance(document, dict) else None
    if not isinstance(mark, dict):
        return None
    return Marked(mark=_only_texts(mark), texts=_only_texts(document), intact=False)


def _texts(block: str, indent: str = "") -> dict[str, str]:
    """The `key: "text"` lines of a block as we write them."""
    pairs = (line.removeprefix(indent).split(": ", 1) for line in block.split("\n") if line.endswith('"'))
    return {key: json.loads(value) for key, value in (pair for pair in pairs if len(pair) == 2) if value[0] == '"'}


def _only_texts(mapping: Mapping[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, str)}


def _checksum_line(text: str) -> str:
    return f'  checksum: "{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"\n'
