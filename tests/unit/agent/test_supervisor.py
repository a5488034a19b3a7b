import asyncio

import pytest

from hamlet_core import backoff
from hamlet_core.agent.supervise import Supervisor
from tests.support.sessions import settle, until


@pytest.fixture
async def supervisor(monkeypatch):
    monkeypatch.setattr(backoff, "delay", lambda *_, **__: 0.0)
    made = Supervisor()
    yield made
    await made.stop_all()


async def cancelled_from_below():
    """Wait for something that is cancelled: nobody asked this task to end."""
    waited = asyncio.get_running_loop().create_future()
    waited.cancel()
    await waited


async def crashes():
    raise ValueError("a fault")


@pytest.mark.parametrize("fault", [crashes, cancelled_from_below])
async def test_a_task_that_crashes_starts_again_and_is_counted(supervisor, fault):
    starts = 0

    async def run():
        nonlocal starts
        starts += 1
        if starts <= 3:
            await fault()
        await asyncio.Event().wait()

    supervisor.start("work", run)
    await until(lambda: starts == 4)
    await settle()
    assert supervisor.crashes == {"work": 3}


async def test_a_task_that_returns_is_not_started_again(supervisor):
    starts = 0

    async def run():
        nonlocal starts
        starts += 1

    supervisor.start("work", run)
    await until(lambda: starts)
    await settle()
    assert (starts, supervisor.crashes) == (1, {})
    supervisor.start("work", run)
    await until(lambda: starts == 2)


async def test_stopping_waits_for_the_end_newest_first(supervisor):
    ended = []

    def work(name):
        async def run():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(name)

        return run

    for name in ("first", "second", "third"):
        supervisor.start(name, work(name))
    await settle()
    await supervisor.stop("unknown")
    await supervisor.stop("second")
    assert ended == ["second"]
    await supervisor.stop_all()
    assert ended == ["second", "third", "first"]
    assert supervisor.crashes == {}
