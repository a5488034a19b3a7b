"""The file: JSON lines, appended."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)


class Trail:
    """Appends to `path`, which it opens anew for each call, so that it can be moved away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raise `OSError` where the file could not be written, or made; it is neither."""
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                raise
            if not os.access(self._path.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None

    def append(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Append one line for each; what cannot be written is said in the log, and the caller goes on."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            made = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with open(made, "a", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor with its mode
                file.write(text)
        except OSError as error:
            _log.error("the audit trail cannot be written", file=str(self._path), lost=text, error=str(error))
