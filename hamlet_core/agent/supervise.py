"""Tasks that must not die: a crash is logged with its cause, counted, and the task starts again with backoff."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine

import structlog

from hamlet_core import backoff

log = structlog.get_logger()

CAP = 60.0
"""Longest delay, in seconds, before a crashed task starts again."""
STEADY = 120.0
"""A task that ran for so many seconds starts its backoff anew."""


class Supervisor:
    """Runs named tasks until they return or are stopped."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.crashes: Counter[str] = Counter()
        """Crashes by the name of the task."""

    def start(self, name: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run `run()` under `name`, again after a crash, not after a return. A name is running at most once."""
        assert name not in self._tasks or self._tasks[name].done(), f"task {name} is running"
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, run), name=name)

    async def stop(self, name: str) -> None:
        """Cancel the task and wait for its end; an unknown name is fine."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        """Cancel everything, newest first."""
        for name in reversed(list(self._tasks)):
            await self.stop(name)

    async def _keep(self, name: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        loop, attempt = asyncio.get_running_loop(), 0
        while True:
            started = loop.time()
            try:
                await run()
            except (Exception, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # we are stopped; any other cancellation is that of something it waited for
                attempt = 0 if loop.time() - started > STEADY else attempt + 1
                seconds = backoff.delay(attempt, CAP)
                self.crashes[name] += 1
                log.exception("a task crashed; it starts again", task=name, retry_in=round(seconds, 1))
                await asyncio.sleep(seconds)
            else:
                return
