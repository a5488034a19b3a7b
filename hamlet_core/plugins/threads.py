"""Running a blocking call on a thread, and waiting for it from the event loop.

Starting a thread blocks the caller until it runs, eight times as long as handing a job to one that waits
(`bench latency`): so a thread that is done waits a while for another job.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

IDLE_SECONDS = 5.0
"""How long a thread without a job stays."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call came to: its value, or the error it raised (whatever it is, SystemExit included)."""

    value: T | None = None
    error: BaseException | None = None


def start(function: Callable[[], T], name: str) -> asyncio.Future[Answer[T]]:
    """Run `function` on a daemon thread called `name` meanwhile; the future never holds an exception itself.

    A daemon thread, because a client library that hangs must not keep the process from ending; a call that
    hangs keeps its thread, and no other call waits for it. Cancelling the future does not stop the thread:
    wait with `asyncio.wait` or `asyncio.shield`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer[T]] = loop.create_future()

    def settle(answer: Answer[T]) -> None:
        if not future.done():
            future.set_result(answer)

    def run() -> Callable[[], None]:
        try:
            answer: Answer[T] = Answer(value=function())
        except BaseException as error:  # noqa: BLE001 - handed to the one who waits
            answer = Answer(error=error)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, answer)

        return tell

    _Worker.idle_or_new().take(run, name)
    return future


class _Worker:
    """A thread that does one job after the other, and ends when there is none for a while."""

    _idle: list[_Worker] = []  # noqa: RUF012 - all of this class, under the lock
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Callable[[], None]], str]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="hamlet-idle", daemon=True).start()

    @classmethod
    def idle_or_new(cls) -> _Worker:
        """One that nobody else has."""
        with cls._lock:
            if cls._idle:
                return cls._idle.pop()
        return cls()

    def take(self, job: Callable[[], Callable[[], None]], name: str) -> None:
        """Do `job`; what it returns is called when this worker is free again."""
        self._jobs.put((job, name))

    def _work(self) -> None:
        thread = threading.current_thread()
        while True:
            try:
                job, thread.name = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self in self._idle:
                        self._idle.remove(self)
                        return
                continue  # somebody has just taken it: the job is on its way
            tell = job()
            thread.name = "hamlet-idle"
            with self._lock:
                self._idle.append(self)
            tell()
            del job, tell  # nothing of a call outlives it
