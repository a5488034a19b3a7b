"""What others do to a folder, for the contract: services that come and go, edits, and outages for one adapter alone.

An adapter is opened through a link beside which the folder itself is not touched: the link can be taken away, and
nobody else notices. `hamlet verify-adapter` imports this module, and the tests do; an agent never does.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import LIVE_NAMES, CoordinatorBackend, RegistryBackend
from hamlet_file.coordinator import TTL, FileCoordinator, FileCoordinatorOptions
from hamlet_file.imports import file_name
from hamlet_file.registry import FileRegistry

if TYPE_CHECKING:
    from hamlet_file.plugin import FileOptions

FOREIGN = b"# made by hamlet verify-adapter\nname: somebody's\n"
"""An entry of others, which shows the next run where it is from."""


class Link:
    """A way to `folder` that can be barred: a link to it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._place = tempfile.TemporaryDirectory(prefix="hamlet-link-")
        self.path = Path(self._place.name) / "folder"
        self.path.symlink_to(self._folder)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Lead nowhere meanwhile."""
        self.path.unlink()
        try:
            yield
        finally:
            self.path.symlink_to(self._folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody pass meanwhile, but for root."""
        self.path.parent.chmod(0o000)
        try:
            yield
        finally:
            self.path.parent.chmod(0o700)

    def close(self) -> None:
        """Remove it."""
        self._place.cleanup()


class FolderBackend(RegistryBackend):
    """The folder of a mesh, which may be in use."""

    def __init__(self, mesh: Path) -> None:
        self.mesh = mesh
        self.services = mesh / "services"
        self.link = Link(mesh)
        self._kept = {path: path.exists() for path in (mesh / "imported", mesh / ".hamlet" / "last-good")}

    def open(self, context: AdapterContext) -> FileRegistry:
        """See `RegistryBackend`."""
        return FileRegistry(self.link.path, context)

    def sweep(self) -> None:
        """See `RegistryBackend`."""
        own = f"{LIVE_NAMES.own}-*"
        for path in [*self.services.glob(own), *self.services.glob(f".{own}")]:
            path.unlink(missing_ok=True)
        for path in (self.mesh / ".hamlet" / "last-good").glob(own):
            path.unlink(missing_ok=True)
        for path in (self.mesh / "imported").glob(f"{own}/*"):
            if path.read_bytes() == FOREIGN:
                self._take_out_foreign(path)

    def add_local(self, service: LocalService) -> str:
        """See `RegistryBackend`."""
        entry = {
            "name": service.name,
            "ports": [{"name": each.name, "port": each.port, "protocol": each.protocol} for each in service.ports],
            "endpoints": [{"address": each.address, "port": each.port} for each in service.endpoints],
            "description": service.description,
            "tags": service.tags,
            "labels": dict(service.labels),
        }
        self.put(f"{service.name}.json", json.dumps(entry, indent=1))
        return service.name

    def put(self, name: str, text: str) -> None:
        """Write a file into services/, in one step."""
        _replace(self.services / name, text.encode())

    def remove_local(self, name: str) -> None:
        """See `RegistryBackend`; the good version that an adapter has kept of it goes as well."""
        _take_out(self.services / f"{name}.json")
        (self.mesh / ".hamlet" / "last-good" / f"{name}.json").unlink(missing_ok=True)

    def path(self, service: ImportedService) -> Path:
        """Where `service` is written."""
        return self.mesh / "imported" / file_name(service.peer) / f"{file_name(service.service.name)}.yaml"

    def add_foreign(self, service: ImportedService) -> str:
        """See `RegistryBackend`."""
        path = self.path(service)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, FOREIGN)
        return str(path.relative_to(self.mesh))

    def remove_foreign(self, service: ImportedService) -> None:
        """See `RegistryBackend`."""
        self._take_out_foreign(self.path(service))

    @staticmethod
    def _take_out_foreign(path: Path) -> None:
        _take_out(path)
        with contextlib.suppress(OSError):  # something else is in it
            path.parent.rmdir()

    def edit_import(self, service: ImportedService) -> None:
        """See `RegistryBackend`."""
        path = self.path(service)
        _replace(path, path.read_bytes().replace(b"203.0.113.7", b"192.0.2.1"))

    def entries(self) -> Mapping[str, object]:
        """See `RegistryBackend`."""
        found = {}
        for folder in ("services", "imported"):
            for path in sorted((self.mesh / folder).rglob("*")):
                with contextlib.suppress(
                    FileNotFoundError
                ):  # gone since it was listed, as a file that is written goes
                    if path.is_file():
                        stat = path.stat()
                        found[str(path.relative_to(self.mesh))] = (path.read_bytes(), stat.st_mtime_ns, stat.st_ino)
        return found

    def outage(self) -> AbstractContextManager[None]:
        """See `RegistryBackend`: the folder is not mounted, as far as the adapter sees."""
        return self.link.away()

    def deny(self) -> AbstractContextManager[None] | None:
        """See `RegistryBackend`; no folder keeps root out."""
        return None if os.geteuid() == 0 else self.link.locked()

    def close(self) -> None:
        """See `RegistryBackend`: folders that the checks made, and that are empty, go too."""
        self.link.close()
        for path, kept in self._kept.items():
            if not kept:
                with contextlib.suppress(OSError):  # it was never made, or something else is in it
                    path.rmdir()


class LockFolderBackend(CoordinatorBackend):
    """The folder of the lock files, which may be in use. Those of the checks are old from the beginning."""

    ttl = TTL

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: dict[object, Link] = {}
        self._made: set[Path] = set()

    def open(self, context: AdapterContext) -> FileCoordinator:
        """See `CoordinatorBackend`; each adapter has a link of its own."""
        link = Link(self._folder)
        adapter = FileCoordinator(FileCoordinatorOptions(path=link.path), context)
        self._links[adapter] = link
        if self.file(context) not in self._made and LIVE_NAMES.own in context.mesh:  # of checks that were killed
            self.file(context).unlink(missing_ok=True)
        self._made.add(self.file(context))
        if not self.file(context).exists():
            adapter.make()
            os.utime(self.file(context), (0, 0))
        return adapter

    def file(self, context: AdapterContext) -> Path:
        """The lock file of a mesh."""
        return self._folder / f"{context.trust_domain}_{context.mesh}.leader"

    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """See `CoordinatorBackend`."""
        return self._links[adapter].away()

    def add_foreign(self, context: AdapterContext) -> str:
        """See `CoordinatorBackend`."""
        self._made.add(self.file(context))
        self.file(context).write_text("somebody's notes\n", encoding="utf-8")
        return self.file(context).name

    def remove_foreign(self, context: AdapterContext) -> None:
        """See `CoordinatorBackend`."""
        self.file(context).unlink(missing_ok=True)

    def entries(self) -> Mapping[str, object]:
        """See `CoordinatorBackend`."""
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(self._folder.glob("*.leader"))
        }

    def close(self) -> None:
        """See `CoordinatorBackend`: an adapter leaves its lock file; those of the checks are of no more use."""
        for link in self._links.values():
            link.close()
        for path in self._made:
            path.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, and not by the name that an adapter of this process would use meanwhile."""
    fresh = _fresh(path)
    fresh.write_bytes(content)
    fresh.replace(path)


def _take_out(path: Path) -> None:
    """Remove a file that was written so, or begun."""
    path.unlink(missing_ok=True)
    _fresh(path).unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name}.others")


def registry(options: FileOptions) -> FolderBackend:
    """What acts on the folder of a registry."""
    return FolderBackend(options.path)


def coordinator(options: FileCoordinatorOptions) -> LockFolderBackend:
    """What acts on the folder of a coordinator."""
    return LockFolderBackend(options.path)
