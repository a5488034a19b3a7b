"""A mesh folder as the contract suite needs it: what the plugin ships for one in use, on one of the test's own."""

import contextlib
import ctypes
import os
import sys
from contextlib import contextmanager

import pytest
from hamlet_file.verification import FolderBackend

from hamlet_core.api.testing import Watching
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


class OwnFolder(FolderBackend):
    """A folder of the test's own, whose rights can be taken: what is not ours to do to one in use."""

    def __init__(self, mesh):
        (mesh / "services").mkdir(parents=True)
        super().__init__(mesh)

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
    folder = OwnFolder(tmp_path / "mesh")
    yield folder
    folder.close()


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
