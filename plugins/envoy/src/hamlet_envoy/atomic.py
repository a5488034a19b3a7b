"""Writing a file whole, for its owner's eyes alone: Envoy notices the rename, and never sees a half."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, content: bytes, *, again: bool = False) -> bool:
    """Replace `path` by `content` in one step; whether it was written.

    What it holds already is written only with `again`, for a reader that missed it. No other user can read it. It
    does not wait for the disk (no fsync): after a power failure Envoy and the agent start anew, and what a file
    held is written again. Raises `OSError`.
    """
    try:
        if not again and path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
    return True
