"""The coordinator of kind `file`: the contract on real locks, and what becomes of a file that others touch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hamlet_file.coordinator import TTL, FileCoordinator, FileCoordinatorOptions
from hamlet_file.verification import LockFolderBackend

from hamlet_core.api import AdapterContext, CoordinatorUnavailable, Severity, Stop
from hamlet_core.api.testing import CoordinatorBackend, CoordinatorContract


class TestFileCoordinatorContract(CoordinatorContract):
    """C1 to C6."""

    @pytest.fixture
    def backend(self, locks: LockFolderBackend) -> CoordinatorBackend:
        return locks


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[LockFolderBackend]:
    """A folder for lock files, which are gone at the end."""
    folder = tmp_path / "locks"
    folder.mkdir()
    locks = LockFolderBackend(folder)
    yield locks
    locks.close()
    assert list(folder.iterdir()) == []


@pytest.fixture
def context(tmp_path: Path) -> AdapterContext:
    return AdapterContext(
        name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
    )


def opened(folder: Path, context: AdapterContext) -> FileCoordinator:
    return FileCoordinator(FileCoordinatorOptions(path=folder), context)


def opened_files() -> Iterator[Path]:
    """Of this process; threads of others may close theirs meanwhile."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            yield descriptor.readlink()


def test_the_first_leader_of_a_new_file_waits_until_that_of_an_earlier_one_has_stopped(
    tmp_path: Path, context: AdapterContext
) -> None:
    began, stop = time.monotonic(), Stop()
    words = opened(tmp_path, context).coordinator_lead(stop)
    assert [next(words), next(words)] == [False, True]
    assert time.monotonic() - began > TTL * 0.9
    stop.set()
    assert list(words) == []


def test_a_leader_whose_file_was_removed_stops(locks: LockFolderBackend, context: AdapterContext) -> None:
    words = locks.open(context).coordinator_lead(stop := Stop())
    assert next(words)
    locks.file(context).unlink()
    assert next(words) is False
    stop.set()


def test_nothing_is_left_beside_the_lock_file(tmp_path: Path, context: AdapterContext) -> None:
    for _ in range(2):
        words = opened(tmp_path, context).coordinator_lead(stop := Stop())
        assert next(words) is False, "it is too new"
        stop.set()
        assert list(words) == []
    assert [path.name for path in tmp_path.iterdir()] == ["west.example_west.leader"]


def test_a_check_makes_no_file_and_says_whether_one_can_be_made(
    tmp_path: Path, context: AdapterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = opened(tmp_path, context)
    (finding,) = coordinator.coordinator_check()
    assert (finding.severity, finding.message) == (Severity.OK, "nobody holds it; whoever leads first makes it")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    (finding,) = coordinator.coordinator_check()
    assert finding.severity is Severity.ERROR
    assert "Permission denied" in finding.message


def test_a_leader_whose_file_is_gone_is_told_so_by_a_check(locks: LockFolderBackend, context: AdapterContext) -> None:
    leader = locks.open(context)
    words = leader.coordinator_lead(stop := Stop())
    assert next(words)
    locks.file(context).unlink()
    (finding,) = leader.coordinator_check()
    assert finding.severity is Severity.ERROR
    assert f"{locks.file(context).name} is gone" in finding.message
    assert finding.mend
    stop.set()
    list(words)


@pytest.mark.parametrize(("make", "word"), [(False, "No such file"), (True, "is not the lock file of this mesh")])
def test_a_folder_that_is_not_there_and_a_file_of_somebody_else_are_named(
    tmp_path: Path, context: AdapterContext, make: bool, word: str
) -> None:
    folder = tmp_path / "locks"
    if make:
        folder.mkdir()
        (folder / "west.example_west.leader").touch()
    coordinator = opened(folder, context)
    with pytest.raises(CoordinatorUnavailable, match=word) as raised:
        next(coordinator.coordinator_lead(Stop()))
    assert str(folder) in str(raised.value)
    (finding,) = coordinator.coordinator_check()
    assert finding.severity is Severity.ERROR
    assert word in finding.message
    assert finding.mend


def test_a_check_says_who_holds_the_lock(locks: LockFolderBackend, context: AdapterContext) -> None:
    leader, standby = locks.open(context), locks.open(context)
    said = [standby.coordinator_check()[0].message]
    words = leader.coordinator_lead(stop := Stop())
    assert next(words)
    said += [leader.coordinator_check()[0].message, standby.coordinator_check()[0].message]
    assert said == ["nobody holds it", "this agent holds it", "another agent holds it"]
    stop.set()
    assert list(words) == []


def test_a_share_that_knows_no_locks_is_told_and_nothing_of_it_stays_open(
    tmp_path: Path, context: AdapterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:  # as on NFS without a lock daemon; none runs here
        del descriptor, operation
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    coordinator = opened(tmp_path, context)
    (finding,) = coordinator.coordinator_check()
    assert "No locks available" in finding.message
    with pytest.raises(CoordinatorUnavailable, match="No locks available"):
        next(coordinator.coordinator_lead(Stop()))
    (finding,) = coordinator.coordinator_check()
    assert "No locks available" in finding.message
    assert tmp_path / "west.example_west.leader" not in set(opened_files())
