"""The folder services/: which files there are, what each says, and what it said when it last could be read.

A malformed file keeps its last good version. That is kept on disk too (.hamlet/last-good/), or a restart
would take the services of a broken file for withdrawn.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from hamlet_core.api import Batch, LocalService, RegistryUnavailable, Remove, Upsert
from hamlet_file.atomic import write_file
from hamlet_file.parse import Malformed, Problem, parse

_SUFFIXES = (".yaml", ".yml", ".json")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file: how it looked on disk, the services that count, and why they are not the newest.

    `services` is None for a file of which no good version is known.
    """

    signature: tuple[int, ...]
    services: tuple[LocalService, ...] | None
    problems: tuple[Problem, ...] = ()


class ServiceFiles:
    """What services/ says. `scan` looks again; `services` and `problems` are of the last scan."""

    def __init__(self, mesh: Path) -> None:
        self.folder = mesh / "services"
        self.services: dict[str, LocalService] = {}
        self.problems: tuple[Problem, ...] = ()
        self._last_good = mesh / ".hamlet" / "last-good"
        self._files: dict[str, _File] = {}

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self._files)

    def scan(self, touched: Collection[str] | None = None, *, remember: bool = True) -> None:
        """Read the files that changed, and those named in `touched` (None: all) even if they look the same.

        Raises `RegistryUnavailable` when the folder cannot be read; then nothing has changed here. With
        `remember`, good versions are kept on disk and those of files that are gone are dropped.
        """
        files: dict[str, _File] = {}
        for name, signature in self._list().items():
            known = self._files.get(name)
            if known is not None and known.signature == signature and touched is not None and name not in touched:
                files[name] = known
                continue
            read = self._read(name, signature, known, remember=remember)
            if read is not None:
                files[name] = read
        if remember:
            self._forget_all_but(files)
        self._files = files
        self._merge()

    def _list(self) -> dict[str, tuple[int, ...]]:
        """The files by name, in the order that decides between two services of one name."""
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(e.name for e in entries if e.name.endswith(_SUFFIXES) and not e.name.startswith("."))
        except OSError as error:
            raise unavailable(self.folder, error) from error
        found: dict[str, tuple[int, ...]] = {}
        for name in names:
            try:
                stat = (self.folder / name).stat()
            except FileNotFoundError:
                if (self.folder / name).is_symlink():  # what it leads to is away, which withdraws nothing
                    found[name] = ()
                continue
            except OSError as error:
                raise unavailable(self.folder / name, error) from error
            found[name] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        return found

    def _read(self, name: str, signature: tuple[int, ...], known: _File | None, *, remember: bool) -> _File | None:
        shown = f"services/{name}"
        try:
            content = (self.folder / name).read_bytes()
            services = parse(shown, content)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not (self.folder / name).is_symlink():
                return None  # removed this moment
            problems: tuple[Problem, ...] = (Problem(file=shown, message=f"cannot be read: {error.strerror}"),)
        except Malformed as error:
            problems = error.problems
        else:
            if remember:
                self._remember(name, content)
            return _File(signature=signature, services=services)
        kept = known.services if known is not None else self._recall(name)
        until = "it counts as no service" if kept is None else "what it said last counts"
        return _File(
            signature=signature, services=kept, problems=tuple(replace(each, until=until) for each in problems)
        )

    def _remember(self, name: str, content: bytes) -> None:
        path = self._last_good / name
        try:
            if not (path.is_file() and path.read_bytes() == content):
                self._last_good.mkdir(parents=True, exist_ok=True)
                write_file(path, content)
        except OSError as error:
            _log.warning("last good version not kept", file=str(path), error=str(error))

    def _recall(self, name: str) -> tuple[LocalService, ...] | None:
        """The services of a file whose good version this process never saw; None where there is none."""
        path = self._last_good / name
        try:
            return parse(str(path), path.read_bytes())
        except FileNotFoundError:
            return None  # it never was good
        except (OSError, Malformed) as error:
            _log.error("last good version unusable", file=str(path), error=str(error))
            return None

    def _forget_all_but(self, files: Collection[str]) -> None:
        try:
            for kept in list(self._last_good.iterdir()) if self._last_good.is_dir() else ():
                if kept.name not in files:
                    kept.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("last good versions not tidied", folder=str(self._last_good), error=str(error))

    def _merge(self) -> None:
        """One table of all files; of two services with one name, that of the first file counts."""
        services: dict[str, LocalService] = {}
        holder: dict[str, str] = {}
        problems: list[Problem] = []
        for name, file in self._files.items():
            problems += file.problems
            for service in file.services or ():
                if service.name in services:
                    message = (
                        f"{service.name!r} is in services/{holder[service.name]} already, which counts: rename one"
                    )
                    until = "the other one counts"
                    problems.append(Problem(file=f"services/{name}", field="name", message=message, until=until))
                    continue
                services[service.name] = service
                holder[service.name] = name
        self.services, self.problems = services, tuple(problems)


def changes(before: dict[str, LocalService], after: dict[str, LocalService]) -> Batch:
    """What turns one table of services into the other."""
    removed = tuple(Remove(name) for name in before if name not in after)
    return removed + tuple(Upsert(service) for name, service in after.items() if before.get(name) != service)


def unavailable(path: Path, error: OSError) -> RegistryUnavailable:
    """The folder is not there as it should be: an outage, whatever the reason."""
    message = f"{path} cannot be read: {error.strerror or error}"
    return RegistryUnavailable(message, mend="make the folder (`mkdir -p`), or mount what belongs there")
