"""The watch of a port: a thread that the core can slow down and stop, and whose batches are checked."""

import asyncio
import threading
from contextlib import aclosing

import pytest
import structlog

from hamlet_core.api import AdapterError, RegistryUnavailable, Snapshot, Upsert, hookimpl
from hamlet_core.api.testing import local_service


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """A thread without a job ends soon, as that it ends is waited for."""
    monkeypatch.setattr("hamlet_core.plugins.threads.IDLE_SECONDS", 0.1)


def no_thread_left():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("hamlet-")]


async def eventually(condition, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on other threads
            await asyncio.sleep(0.01)


async def follow(port, seen):
    """Take every batch of a watch."""
    async with aclosing(port.watch()) as batches:
        async for batch in batches:
            seen.append(batch)


async def test_batches_come_in_order_and_the_thread_ends_with_the_loop(memory, make_port):
    memory.add_local(local_service("orders"))
    async with aclosing(make_port().watch()) as batches:
        first = await anext(batches)
        memory.add_local(local_service("billing"))
        memory.remove_local("orders")
        changes = [await anext(batches), await anext(batches)]
    assert first == Snapshot((local_service("orders"),))
    assert changes[0] == (Upsert(local_service("billing")),)
    assert changes[1][0].name == "orders"
    await eventually(no_thread_left)


async def test_the_adapter_waits_for_a_slow_core(make_port):
    yielded = []

    def registry_watch(stop):
        yield Snapshot(())
        for number in range(100):
            yielded.append(number)
            yield ()
        stop.wait(60)

    async with aclosing(make_port(registry_watch=registry_watch).watch()) as batches:
        await anext(batches)
        await eventually(lambda: len(yielded) >= 4)
        assert len(yielded) < 10
        async for _ in batches:
            if len(yielded) == 100:
                break


async def test_a_core_that_leaves_wakes_an_adapter_that_waits_for_it(make_port):
    def registry_watch(stop):
        yield Snapshot(())
        while True:
            yield ()

    async with aclosing(make_port(registry_watch=registry_watch).watch()) as batches:
        await anext(batches)
    await eventually(no_thread_left)


async def test_an_outage_is_raised_with_the_registry_and_its_cause(memory, make_port):
    async with aclosing(make_port().watch()) as batches:
        await anext(batches)
        with memory.outage(), pytest.raises(RegistryUnavailable) as raised:
            await anext(batches)
    assert str(raised.value) == "registry 'west' (memory): the memory went out of reach"
    assert isinstance(raised.value.__cause__, RegistryUnavailable)


async def test_what_was_yielded_before_an_error_is_delivered_before_it(make_port):
    def registry_watch(stop):
        yield Snapshot(())
        yield (Upsert(local_service("orders")),)
        raise OSError("gone")

    seen = []
    with pytest.raises(AdapterError, match=r"registry 'west' \(memory\): OSError: gone"):
        await follow(make_port(registry_watch=registry_watch), seen)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([(Upsert(local_service("orders")),)], "the first batch of its watch is"),
        ([None], "the first batch of its watch is None and must be a Snapshot"),
        ([Snapshot(()), "news"], "its watch yielded 'news'; a Snapshot or a tuple of changes is due"),
        ([Snapshot(()), ("news",)], "a Snapshot or a tuple of changes is due"),
    ],
)
async def test_a_batch_that_breaks_the_contract_is_refused(make_port, batches, sentence):
    def registry_watch(stop):
        yield from batches
        stop.wait(60)

    with pytest.raises(AdapterError, match=r"registry 'west' \(memory\)") as raised:
        await follow(make_port(registry_watch=registry_watch), [])
    assert sentence in str(raised.value)
    await eventually(no_thread_left)


async def test_a_watch_that_ends_by_itself_is_to_be_called_again(make_port):
    def registry_watch(stop):
        yield Snapshot(())

    with pytest.raises(RegistryUnavailable, match="ended without being asked to"):
        await follow(make_port(registry_watch=registry_watch), [])


async def test_a_watch_that_does_not_end_is_reported_and_no_second_one_begun(make_port):
    release = threading.Event()

    def registry_watch(stop):
        yield Snapshot(())
        release.wait(60)

    port = make_port(registry_watch=registry_watch, stop_timeout=0.1)
    try:
        with structlog.testing.capture_logs() as logs:
            async with aclosing(port.watch()) as batches:
                await anext(batches)
        assert [entry["event"] for entry in logs] == ["watch does not end"]
        with pytest.raises(RegistryUnavailable, match="has not ended yet"):
            await anext(port.watch())
    finally:
        release.set()
    await eventually(no_thread_left)


async def test_close_ends_a_watch_without_an_error(make_port):
    port = make_port()
    seen = []
    following = asyncio.create_task(follow(port, seen))
    await eventually(lambda: seen)
    await port.close()
    await asyncio.wait_for(following, 20)
    await eventually(no_thread_left)


async def test_observers_see_a_batch_after_the_core_took_it(memory, make_port):
    seen, taken = [], []

    class Observer:
        @hookimpl
        def registry_observed(self, batch):
            seen.append((batch, len(taken)))

    memory.add_local(local_service("orders"))
    async with aclosing(make_port({"audit": Observer()}).watch()) as batches:
        taken.append(await anext(batches))
        memory.add_local(local_service("billing"))
        taken.append(await anext(batches))
    assert seen == [(taken[0], 1)]


async def test_an_observer_that_fails_is_logged_and_the_watch_goes_on(memory, make_port):
    class Observer:
        @hookimpl
        def registry_observed(self, batch):
            raise ValueError("no")

    with structlog.testing.capture_logs() as logs:
        async with aclosing(make_port({"audit": Observer()}).watch()) as batches:
            await anext(batches)
            memory.add_local(local_service("orders"))
            await anext(batches)
    assert [(entry["event"], entry["hook"]) for entry in logs] == [("adapter failed", "registry_observed")]
