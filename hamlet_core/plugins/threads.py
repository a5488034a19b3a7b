"""Running a blocking call on a thread of its own, and waiting for it from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call came to: its value, or the error it raised (whatever it is, SystemExit included)."""

    value: T | None = None
    error: BaseException | None = None


def start(function: Callable[[], T], name: str) -> asyncio.Future[Answer[T]]:
    """Run `function` on a new daemon thread called `name`; the future never holds an exception itself.

    A daemon thread, because a client library that hangs must not keep the process from ending. Cancelling
    the future does not stop the thread: wait with `asyncio.wait` or `asyncio.shield`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer[T]] = loop.create_future()

    def settle(answer: Answer[T]) -> None:
        if not future.done():
            future.set_result(answer)

    def run() -> None:
        try:
            answer: Answer[T] = Answer(value=function())
        except BaseException as error:  # noqa: BLE001 - handed to the one who waits
            answer = Answer(error=error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, answer)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
