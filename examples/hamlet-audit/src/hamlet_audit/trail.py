"""The file: JSON lines, appended."""

from __future__ import annotations

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

    def open(self) -> None:
        """Make the file if it is not there; raises `OSError` where it cannot be written."""
        os.close(self._descriptor())

    def append(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Append one line for each; what cannot be written is said in the log, and the caller goes on."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with open(self._descriptor(), "a", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor with its mode
                file.write(text)
        except OSError as error:
            _log.error("the audit trail cannot be written", file=str(self._path), lost=text, error=str(error))

    def _descriptor(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
