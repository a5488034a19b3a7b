"""Who leads, by a lock on a file: for agents of one mesh on one machine, or on a folder that shares its locks.

The kernel lets go of a lock when its holder ends, however it ends. A lock holds a file and not its name, so a file
that somebody moved or removed is given up, and one that is new is led by only after the time that this takes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from pydantic import Field

from hamlet_core.api import (
    AdapterContext,
    AdapterOptions,
    AdapterType,
    CoordinatorUnavailable,
    Finding,
    Severity,
    Stop,
    hookimpl,
    lead_by_renewing,
)

TTL = 4.5
"""Seconds: a leader looks at its file several times within two thirds of it, and then has the rest to stop."""


class FileCoordinatorOptions(AdapterOptions):
    """The keys of a coordinator of kind `file`."""

    path: Path = Field(description="Folder of the lock file, the same for all agents of the mesh; it must exist.")


class FileCoordinator:
    """The lock file `<trust domain>_<mesh>.leader`. Its content is its mark and never changes."""

    def __init__(self, options: FileCoordinatorOptions, context: AdapterContext) -> None:
        self._file = options.path / f"{context.trust_domain}_{context.mesh}.leader"
        self._mark = f"hamlet: who locks this file leads mesh {context.mesh} of {context.trust_domain}\n".encode()
        self._held: int | None = None
        self._ripe = False
        self._gone: float | None = None

    @hookimpl
    def coordinator_lead(self, stop: Stop) -> Iterator[bool]:
        """Hold the lock, or wait for it."""
        return lead_by_renewing(stop, self._claim, self._release, ttl=TTL)

    @hookimpl
    def coordinator_check(self) -> Sequence[Finding]:
        """Say whether the file can be locked, or made; it is not made here."""
        subject = str(self._file)
        try:
            message = self._held_by()
        except CoordinatorUnavailable as error:
            return [Finding(subject=subject, severity=Severity.ERROR, message=str(error), mend=error.mend)]
        except OSError as error:
            return [self._finding(error)]
        return [Finding(subject=subject, severity=Severity.OK, message=message)]

    @hookimpl
    def coordinator_close(self) -> None:
        """Let go of the lock."""
        self._release()

    def _held_by(self) -> str:
        """Who holds the lock, in words; raises what keeps this agent from holding it."""
        if (held := self._held) is not None:
            if self._in_place(held):
                return "this agent holds it"
            message = f"{self._file} is gone, or another than the one that this agent has locked"
            raise CoordinatorUnavailable(message, mend="leave it where it is: a new one is locked once it is old")
        with ExitStack() as closing:
            if self._file.exists():
                free = _locked(self._opened(closing), fcntl.LOCK_SH)
                return "nobody holds it" if free else "another agent holds it"
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            closing.callback(os.close, folder)
            _locked(folder, fcntl.LOCK_SH)  # for a moment, to know whether there are locks here
        if not os.access(self._file.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return "nobody holds it; whoever leads first makes it"

    def _finding(self, error: OSError) -> Finding:
        said = self._unavailable(error)
        return Finding(subject=str(self._file), severity=Severity.ERROR, message=str(said), mend=said.mend)

    def _unavailable(self, error: OSError) -> CoordinatorUnavailable:
        message = f"the lock file {self._file} cannot be used: {error.strerror or error}"
        return CoordinatorUnavailable(message, mend="make or mount the folder, and let the agent's user write there")

    def _claim(self) -> bool:
        try:
            if self._held is not None:
                return self._kept(self._held)
            with ExitStack() as closing:
                self.make()
                descriptor = self._opened(closing)
                if not _locked(descriptor, fcntl.LOCK_EX) or not self._in_place(descriptor):
                    return False
                closing.pop_all()
            self._held, self._gone = descriptor, None
            return self._old_enough(descriptor)
        except OSError as error:
            raise self._unavailable(error) from error

    def _kept(self, descriptor: int) -> bool:
        """Whether what we hold still is what others would lock. If not, it is held on to until we have stopped."""
        if self._gone is None and self._in_place(descriptor):
            return self._old_enough(descriptor)
        now = time.monotonic()
        self._gone = self._gone or now
        if now - self._gone > TTL:
            self._release()
        return False

    def _old_enough(self, descriptor: int) -> bool:
        """Whether who held an earlier file of this name has had the time to notice that it is gone."""
        self._ripe = self._ripe or time.time() - os.fstat(descriptor).st_mtime > TTL
        return self._ripe

    def _in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._file.stat())
        except FileNotFoundError:
            return False

    def make(self) -> None:
        """Make the file where there is none: whole from the beginning, and never over another."""
        if self._file.exists():
            return
        fresh = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        fresh.write_bytes(self._mark)
        try:
            with suppress(FileExistsError):  # another agent was quicker
                os.link(fresh, self._file)
        finally:
            fresh.unlink()

    def _opened(self, closing: ExitStack) -> int:
        """The file, open. `closing` closes it, whatever goes wrong: a claim is tried for as long as it takes."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        closing.callback(os.close, descriptor)
        if os.pread(descriptor, 2 * len(self._mark), 0) != self._mark:
            message = f"{self._file} is there and is not the lock file of this mesh"
            raise CoordinatorUnavailable(message, mend="move it away, or set another `path`")
        return descriptor

    def _release(self) -> None:
        held, self._held, self._ripe, self._gone = self._held, None, False, None
        if held is not None:
            os.close(held)


def _locked(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


ADAPTER = AdapterType(
    kind="file",
    role="coordinator",
    options=FileCoordinatorOptions,
    open=FileCoordinator,
    api_version=1,
    summary="a lock on a file",
    backend="hamlet_file.verification:coordinator",
)
