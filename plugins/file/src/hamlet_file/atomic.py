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
    _written(path, content).replace(path)


def create_file(path: Path, content: bytes) -> None:
    """Make `path` with `content` in one step, in the same way; `FileExistsError` when something stands there.

    Where the file system knows no hard links, who reads in that very moment may see the beginning of it alone.
    """
    temporary = _written(path, content)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        file = path.open("xb")
        try:
            with file:
                file.write(content)
        except OSError:
            path.unlink(missing_ok=True)  # half a file would be nobody's
            raise
    finally:
        temporary.unlink(missing_ok=True)


def _written(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    temporary.write_bytes(content)
    return temporary
