"""One writer per folder: a lock that the operating system releases when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class WriterLock:
    """The lock file .hamlet/writer.lock; its content says who holds it."""

    def __init__(self, path: Path, owner: str) -> None:
        self._path = path
        self._owner = f"{owner}, pid {os.getpid()}"
        self._held: int | None = None

    @property
    def held(self) -> bool:
        """Whether we took it and did not let go."""
        return self._held is not None

    def acquire(self) -> str:
        """Take the lock, or go on holding it; return who else has it, or an empty string. Raises `OSError`."""
        if self._held is not None and self._is_in_place(self._held):
            return ""
        self.release()
        self._path.parent.mkdir(exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            holder = _content(descriptor)
            os.close(descriptor)
            return holder
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, self._owner.encode(), 0)
        self._held = descriptor
        return ""

    def holder(self) -> str:
        """Who else has the lock now, or an empty string; without taking it. Raises `OSError`."""
        if self._held is not None:
            return ""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            return "" if _try_lock(descriptor, fcntl.LOCK_SH) else _content(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let others write. The file stays: removing it would let two hold different files of one name."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _is_in_place(self, descriptor: int) -> bool:
        """Whether the file we hold still is the one that others would lock."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode(errors="replace") or "unknown"
