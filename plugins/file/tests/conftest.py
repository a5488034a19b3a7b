"""A mesh folder as the contract suite needs it: the hands of everybody but the adapter."""

import contextlib
import ctypes
import json
import os
import sys
from contextlib import contextmanager

import pytest
from hamlet_file.imports import file_name
from hamlet_file.registry import FileRegistry

from hamlet_core.api.testing import RegistryBackend, Watching
from hamlet_core.api.testing.agents import Agents

_VERSION_3 = 0x20080522
_OVERRIDE = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7))."""


@contextmanager
def without_override():
    """Give up the power of root to pass by the modes of files, in this thread and those that it starts."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()

    def call(function):
        if function(header, sets):
            raise OSError(ctypes.get_errno(), f"{function.__name__} of capabilities failed")

    call(libc.capget)
    effective = sets[0]
    sets[0] = effective & ~_OVERRIDE
    call(libc.capset)
    try:
        yield
    finally:
        sets[0] = effective
        call(libc.capset)


class FolderBackend(RegistryBackend):
    def __init__(self, mesh):
        self.mesh = mesh
        self.services = mesh / "services"
        self.services.mkdir(parents=True)

    def open(self, context):
        return FileRegistry(self.mesh, context)

    def add_local(self, service):
        entry = {
            "name": service.name,
            "ports": [{"name": p.name, "port": p.port, "protocol": p.protocol} for p in service.ports],
            "endpoints": [{"address": e.address, "port": e.port} for e in service.endpoints],
            "description": service.description,
            "tags": service.tags,
            "labels": service.labels,
        }
        self.put(f"{service.name}.json", json.dumps(entry, indent=1))
        return service.name

    def put(self, name, text):
        """Write a file into services/, in one step."""
        fresh = self.services / f".{name}.new"
        fresh.write_text(text)
        fresh.replace(self.services / name)

    def remove_local(self, name):
        (self.services / f"{name}.json").unlink()

    def path(self, service):
        return self.mesh / "imported" / service.peer / f"{file_name(service.service.name)}.yaml"

    def add_foreign(self, service):
        path = self.path(service)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text("name: somebody's\n")
        fresh.replace(path)
        return str(path.relative_to(self.mesh))

    def edit_import(self, service):
        path = self.path(service)
        path.write_text(path.read_text().replace("203.0.113.7", "192.0.2.1"))

    def entries(self):
        return {
            str(path.relative_to(self.mesh)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            for folder in ("services", "imported")
            for path in sorted((self.mesh / folder).rglob("*"))
            if path.is_file()
        }

    @contextmanager
    def outage(self):
        away = self.mesh.with_name("unmounted")
        self.mesh.rename(away)
        try:
            yield
        finally:
            away.rename(self.mesh)

    def deny(self):
        """Modes of folders, which bind no one with the power to override them: then there are no rights to take."""
        with self.closed(self.services):
            try:
                list(self.services.iterdir())
            except PermissionError:
                return self._denied()
        return None

    @contextmanager
    def _denied(self):
        with contextlib.ExitStack() as stack:
            for folder in sorted((self.mesh / "imported").glob("*/")):
                stack.enter_context(self.closed(folder, 0))
            stack.enter_context(self.closed(self.services))
            yield

    @staticmethod
    @contextmanager
    def closed(folder, mode=0o300):
        """Have a mode that lets nobody list the folder; with this one others can go on putting files into it."""
        before = folder.stat().st_mode
        folder.chmod(mode)
        try:
            yield
        finally:
            folder.chmod(before)


@pytest.fixture
def bound_by_modes():
    """Run the test, and every thread that it starts, as one who is bound by the modes of files: root is not."""
    with without_override():
        yield


@pytest.fixture
def folder(tmp_path):
    """An empty mesh."""
    return FolderBackend(tmp_path / "mesh")


@pytest.fixture
def start(folder, tmp_path):
    """Open adapters on the folder as agents do; closes them at the end."""
    agents = Agents(folder, tmp_path)
    yield agents.start
    agents.stop_all()


@pytest.fixture
def watch():
    """Begin watches; all are stopped at the end."""
    watches = []

    def begin(agent):
        watches.append(Watching(agent))
        return watches[-1]

    yield begin
    for each in watches:
        if each.error is None:
            each.end(30)
