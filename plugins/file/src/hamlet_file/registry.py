"""The adapter: the hooks of a registry, on a folder.

`services` and `imports` know what the files mean; this module knows what the core asks for, and when the
folder counts as out of reach. services/ must exist: where it is missing, something is not mounted, and
that is an outage and never an empty mesh.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import structlog
import watchfiles

from hamlet_core.api import (
    AdapterContext,
    Batch,
    Finding,
    ImportChange,
    Outcome,
    RegistryUnavailable,
    Severity,
    Snapshot,
    StandingImport,
    Status,
    Stop,
    WriteImport,
    hookimpl,
)
from hamlet_file.imports import ImportedFiles
from hamlet_file.lock import WriterLock
from hamlet_file.services import ServiceFiles, changes, unavailable

_SETTLE_MS = 25
"""Milliseconds without a further event after which the files are read."""
_SETTLE_AT_MOST_MS = 250
"""Milliseconds after which they are read although events go on."""
_LOOK_MS = 250
"""Milliseconds between two looks at whether the folder still is the one that is watched."""

_log = structlog.get_logger(__name__)


class FileRegistry:
    """A mesh as a folder: services/ is read, imported/ is written, .hamlet/ is our own."""

    def __init__(self, mesh: Path, context: AdapterContext) -> None:
        self._mesh = mesh
        self._services = ServiceFiles(mesh)
        self._imports = ImportedFiles(mesh, context)
        self._lock = WriterLock(mesh / ".hamlet" / "writer.lock", f"registry {context.name}")

    @hookimpl
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """Read everything, then follow the events of the operating system."""
        watched = self._require_folder()
        self._scan(None, watched)
        yield Snapshot(tuple(self._services.services.values()))
        events = watchfiles.watch(
            self._services.folder, watch_filter=None, recursive=False, stop_event=stop,
            debounce=_SETTLE_AT_MOST_MS, step=_SETTLE_MS, rust_timeout=_LOOK_MS, yield_on_timeout=True,
        )  # fmt: skip
        first = True  # what changed between reading and watching is found by comparing all files, once
        with contextlib.closing(events):
            while not stop.is_set():
                touched = self._next(events)
                if touched is None:
                    return
                self._require_same(watched)
                if touched or first:
                    before = self._services.services
                    self._scan(touched, watched)
                    if batch := changes(before, self._services.services):
                        yield batch
                first = False

    @hookimpl
    def registry_imports(self) -> Sequence[StandingImport]:
        """List the files with our mark."""
        try:
            standing = self._imports.listing()
        except OSError as error:
            raise unavailable(self._mesh / "imported", error) from error
        self._require_folder()  # had it gone away in between, the list would be short
        return standing

    @hookimpl
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write and remove files, if no other agent is the writer of this folder."""
        if holder := self._become_writer():
            reason = f"another agent ({holder}) writes {self._mesh}; this one only publishes from it"
            return [Outcome(key=change.key, status=Status.RETRY, reason=reason) for change in changes]
        return [self._apply(change) for change in changes]

    @hookimpl
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """Write .peer.yaml into the folder of the peer, or remove it."""
        if holder := self._become_writer():
            message = f"another agent ({holder}) writes {self._mesh}; this one only publishes from it"
            raise RegistryUnavailable(message)
        try:
            self._imports.mark_peer(peer, lost_since)
        except OSError as error:
            raise unavailable(self._mesh / "imported", error) from error
        return True

    @hookimpl
    def registry_check(self) -> Sequence[Finding]:
        """Look at the folder, at every file in it and at who may write."""
        files = ServiceFiles(self._mesh)
        try:
            files.scan(remember=False)
            strays = self._imports.strays()
            holder = self._lock.holder()
        except (RegistryUnavailable, OSError) as error:
            mend = error.mend if isinstance(error, RegistryUnavailable) else ""
            return [Finding(subject=str(self._mesh), severity=Severity.ERROR, message=str(error), mend=mend)]
        services, count = len(files.services), files.count
        summary = f"{services} service{'s' * (services != 1)} in {count} file{'s' * (count != 1)}"
        findings = [Finding(subject=str(files.folder), severity=Severity.OK, message=summary)]
        for problem in files.problems:
            mend = f"correct the file; until then {problem.until}"
            findings.append(Finding(subject=problem.file, severity=Severity.ERROR, message=str(problem), mend=mend))
        if holder:
            message = f"another agent ({holder}) writes this folder; this one only publishes from it"
            findings.append(_warning(str(self._mesh), message, "give each agent a folder of its own"))
        for path in (self._mesh, self._mesh / "imported", self._mesh / ".hamlet"):
            if path.exists() and not os.access(path, os.W_OK | os.X_OK):
                mend = "let the agent's user write there, unless it only publishes"
                findings.append(_warning(str(path), "imports cannot be written: no right to write", mend))
        findings += [_warning(path, "it is not ours, and is left alone", "move it away") for path in strays]
        return findings

    @hookimpl
    def registry_close(self) -> None:
        """Let another agent write."""
        self._lock.release()

    def _scan(self, touched: set[str] | None, watched: os.stat_result) -> None:
        known = set(self._services.problems)
        self._services.scan(touched)
        self._require_same(watched)  # had it gone away or been replaced meanwhile, services would be missing
        for problem in self._services.problems:
            if problem not in known:
                _log.warning("service file refused", problem=str(problem), until_then=problem.until)

    def _next(self, events: Iterator[set[watchfiles.main.FileChange]]) -> set[str] | None:
        """The names of files with events, an empty set when there were none for a while, None at the end."""
        try:
            return {os.path.basename(path) for _, path in next(events)}  # noqa: PTH119 - paths as texts, many
        except StopIteration:
            return None
        except OSError as error:
            raise unavailable(self._services.folder, error) from error

    def _apply(self, change: ImportChange) -> Outcome:
        try:
            if isinstance(change, WriteImport):
                return self._imports.write(change.service)
            return self._imports.remove(change.key)
        except OSError as error:
            reason = f"{error.filename or self._mesh}: {error.strerror or error}"
            return Outcome(key=change.key, status=Status.RETRY, reason=reason)

    def _become_writer(self) -> str:
        """Take the writer lock; return who else has it, or an empty string."""
        self._require_folder()
        try:
            held = self._lock.held
            holder = self._lock.acquire()
            if not holder and not held:
                self._imports.tidy_up()
        except OSError as error:
            message = f"{self._mesh} cannot be written: {error.strerror or error}"
            raise RegistryUnavailable(message, mend="let the agent's user write there") from error
        return holder

    def _require_same(self, watched: os.stat_result) -> None:
        """The folder must still be the one whose events are followed."""
        if not os.path.samestat(watched, self._require_folder()):
            message = f"{self._services.folder} was replaced; it is read anew"
            raise RegistryUnavailable(message)

    def _require_folder(self) -> os.stat_result:
        """The folder must be there, with services/ in it; never make it ourselves: it may be a mount point."""
        try:
            return self._services.folder.stat()
        except OSError as error:
            raise unavailable(self._services.folder, error) from error


def _warning(subject: str, message: str, mend: str) -> Finding:
    return Finding(subject=subject, severity=Severity.WARNING, message=message, mend=mend)
