"""Processes of their own for owners and consumers, asked over a pipe; the asking process sleeps meanwhile.

A worker is a class with async methods, run on uvloop as the agent is. Monotonic clocks of processes on one
machine agree (Linux CLOCK_MONOTONIC), so workers compare their times.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import gc
import logging
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, Self

import structlog
import uvloop

PATIENCE = 180.0
"""Seconds after which an answer is given up."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork would take the asking process's gRPC state along


class Target(Protocol):
    """What runs in a worker. All its async methods can be asked for."""

    async def close(self) -> None:
        """Stop what runs, if anything does; called at the end, too."""


class Worker:
    """A process that runs one `make()` object. Use it as a context; it ends with it."""

    def __init__(self, make: Callable[[], Target], profile: Path | None = None) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        label = getattr(make, "__name__", "worker").lower()
        self._process = _SPAWN.Process(target=_main, args=(theirs, make, profile, label), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def begin(self, command: str, *arguments: Any, **named: Any) -> None:
        """Have a method called; `result` waits for it."""
        self._pipe.send((command, arguments, named))

    def result(self) -> Any:
        """The answer to the earliest call that has had none; raises `WorkerError` for one that failed."""
        if not self._pipe.poll(PATIENCE):
            message = f"no answer within {PATIENCE:g} s"
            raise WorkerError(message)
        try:
            failed, answer = self._pipe.recv()
        except EOFError as error:
            message = f"the process ended with exit code {self._process.exitcode}"
            raise WorkerError(message) from error
        if failed:
            raise WorkerError(answer)
        return answer

    def ask(self, command: str, *arguments: Any, **named: Any) -> Any:
        """Call a method and wait for its answer."""
        self.begin(command, *arguments, **named)
        return self.result()


class WorkerError(RuntimeError):
    """What a worker was asked to do failed; the message is its traceback."""


def resident() -> int:
    """Bytes of memory that this process has resident, after the garbage is collected."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _main(pipe: Connection, make: Callable[[], Target], profile: Path | None, label: str) -> None:
    # Failures are answers; what the agent logs on its way is not part of a measurement.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with _profiled(profile, label):
        uvloop.run(_serve(pipe, make))


async def _serve(pipe: Connection, make: Callable[[], Target]) -> None:
    target = make()
    try:
        await _answer(pipe, target)
    finally:
        await target.close()


async def _answer(pipe: Connection, target: Target) -> None:
    while True:
        try:
            asked = await asyncio.to_thread(pipe.recv)
        except EOFError:
            return
        if asked is None:
            return
        command, arguments, named = asked
        try:
            pipe.send((False, await getattr(target, command)(*arguments, **named)))
        except Exception:  # noqa: BLE001 - the asking process raises it again
            pipe.send((True, traceback.format_exc()))


@contextlib.contextmanager
def _profiled(folder: Path | None, label: str) -> Iterator[None]:
    if folder is None:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(folder / f"{label}-{os.getpid()}.prof")
