"""Writing a file whole: a reader, or an agent killed in the middle, sees the old content or the new."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp"


def write_file(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step. Raises `OSError`.

    It does not wait for the disk (no fsync). That costs nothing against a killed process, whose writes the
    kernel completes; after a power failure the newest files may be missing or empty, and what they held
    comes again: imports from the peer's catalog, good versions from services/.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    temporary.write_bytes(content)
    temporary.replace(path)
