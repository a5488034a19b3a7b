"""`${NAME}`, `${NAME:-default}` and `file:PATH` in the values of a configuration, and their secrecy.

What a reference stands for is used and never shown: the value knows what was written in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

MAX_FILE_BYTES = 64 * 1024
"""A token, a password or a chain of certificates is far smaller."""

_PART = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class BrokenReference(ValueError):
    """A reference that gives no value, and what to do about it."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


class Referenced(str):
    """Text that a reference stands for: its `repr` is the reference, so that no log or error shows more."""

    __slots__ = ("reference",)
    reference: str

    def __new__(cls, value: str, reference: str) -> Self:
        """`value` is what is used, `reference` what stands in the file."""
        text = super().__new__(cls, value)
        text.reference = reference
        return text

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Let a copy keep the reference."""
        return str(self), self.reference

    def __repr__(self) -> str:
        return repr(self.reference)


def resolve(text: str, *, directory: Path, environ: Mapping[str, str]) -> str:
    """Fill in what `text` refers to; text without a reference is returned as it is.

    `file:` stands before a whole value, its path relative to `directory`; one newline at the end of the
    file is not part of the value. `$${` writes a literal `${`. Raises `BrokenReference`, which names the
    reference and never what is behind it.
    """
    if text.startswith("file:"):
        path = Path(_fill(text.removeprefix("file:"), environ))
        return Referenced(_contents(directory / path, text), text)
    value = _fill(text, environ)
    return text if value == text else Referenced(value, text)


def _fill(text: str, environ: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        parts = None if match[1] is None else _NAME.fullmatch(match[1])
        if parts is None:
            message = f"{match[0]!r} is no reference"
            raise BrokenReference(message, mend="write ${NAME} or ${NAME:-default}, and $${ for a literal ${")
        name, default = parts.groups()
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            message = f"the environment variable {name} is not set"
            raise BrokenReference(message, mend=f"set it, or write ${{{name}:-default}}")
        return value

    return _PART.sub(one, text)


def _contents(path: Path, reference: str) -> str:
    shown = "" if "${" in reference else f" {path}"
    try:
        if not path.is_file():
            message = f"{reference}: there is no file{shown}"
            raise BrokenReference(message, mend="write the value there, for the agent's user to read")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            message = f"{reference}: the file is larger than {MAX_FILE_BYTES} bytes"
            raise BrokenReference(message, mend="name a file that holds the value alone")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # The error itself holds the content.
        message = f"{reference}: the file is not UTF-8 text"
        raise BrokenReference(message, mend="name a file that holds the value alone") from None
    except OSError as error:
        message = f"{reference}: the file{shown} cannot be read: {error.strerror}"
        raise BrokenReference(message, mend="let the agent's user read it") from error
