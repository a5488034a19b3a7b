"""The consumer's role: what it hands over, what it answers, when it takes a catalog to be complete."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from hamlet_core.rpc import consumer as module
from hamlet_core.rpc.consumer import QUEUE, ConsumerSession, Verdict
from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.extensions import Extensions
from hamlet_core.wire.messages import Answer, Offer, SnapshotEnd, Subscribe, Unreadable, Withdraw
from tests.support.sessions import TWO, Frames, service, settle, until

UNAVAILABLE, INVALID = 14, 3
FOR_EVER = 3600.0


class Consumer:
    def __init__(self, sink, *, snapshot=True, quiet=FOR_EVER, write_timeout=30.0):
        self.extensions = Extensions(snapshot=snapshot)
        self.frames = Frames(TWO, from_server=False)
        self.counts = True
        self.asked = 0
        self.session = ConsumerSession(
            "east", TWO, sink, self.frames.send, context="shop", extensions=lambda: self.extensions, quiet=quiet,
            write_timeout=write_timeout, silence_counts=self._silence_counts,
        )  # fmt: skip

    async def _silence_counts(self):
        self.asked += 1
        return self.counts

    async def take(self, *messages):
        for message in messages:
            await self.session.take(message, 10)

    @property
    def answers(self):
        return [(answer.nonce, answer.code) for answer in self.frames.of(Answer)]

    async def answered(self, *answers):
        await until(lambda: len(self.answers) >= len(answers), f"{answers}; given were {self.answers}")
        assert self.answers == list(answers)


@pytest.fixture
def consumer(sink):
    @asynccontextmanager
    async def make(**options):
        it = Consumer(sink, **options)
        tasks = [asyncio.create_task(loop) for loop in it.session.loops()]
        try:
            yield it
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return make


def offer(name, nonce=None):
    return Offer(nonce or name, service(name))


async def test_each_message_is_answered_with_what_became_of_it_in_order(consumer, sink):
    verdicts = {"b": Verdict(INVALID, "no"), "c": Verdict(UNAVAILABLE, "later")}
    sink.verdict = lambda received: verdicts.get(received.message.name, Verdict())
    async with consumer() as it:
        it.session.activate()
        await it.session.subscribe()
        await it.take(offer("a"), offer("b"), Withdraw("w", "c"), Unreadable("u", "d", "torn"))
        await it.answered(("a", 0), ("b", INVALID), ("w", UNAVAILABLE), ("u", 0))
        assert isinstance(it.frames.messages[0], Subscribe)
        assert it.frames.messages[2].message == "no"
        assert sink.events == ["begin", "a", "b", "c", "d"]


async def test_the_end_of_the_catalog_counts_once_what_came_before_is_imported(consumer, sink):
    sink.open.clear()
    async with consumer() as it:
        it.session.activate()
        await it.take(offer("a"), SnapshotEnd("end", 1), offer("b"))
        await settle()
        assert "complete" not in sink.events
        sink.open.set()
        await it.answered(("a", 0), ("end", 0), ("b", 0))
        assert sink.events == ["begin", "a", "complete", "b"]
        assert it.session.complete
        await it.take(SnapshotEnd("again", 1))
        await it.answered(("a", 0), ("end", 0), ("b", 0), ("again", 0))
        assert sink.events.count("complete") == 1


async def test_the_end_of_a_walk_from_before_we_subscribed_is_not_the_end_of_ours(consumer, sink):
    async with consumer() as it:
        await it.take(offer("a"), offer("b"))
        await it.answered(("a", UNAVAILABLE), ("b", UNAVAILABLE))
        it.session.activate()
        await it.take(offer("c"), SnapshotEnd("old", 3))
        await it.answered(("a", UNAVAILABLE), ("b", UNAVAILABLE), ("c", 0), ("old", 0))
        assert "complete" not in sink.events, "a and b would be taken to be gone"
        await it.take(offer("a", "4"), offer("b", "5"), offer("c", "6"), SnapshotEnd("new", 3))
        await until(lambda: "complete" in sink.events)


async def test_a_passive_session_imports_nothing_and_says_come_later(consumer, sink):
    async with consumer() as it:
        it.session.activate()
        it.session.retire()
        await it.take(offer("a"), SnapshotEnd("end", 0))
        await it.answered(("a", UNAVAILABLE), ("end", 0))
        assert sink.events == ["begin"]


async def test_silence_ends_the_catalog_of_an_owner_without_the_extension(consumer, sink):
    async with consumer(snapshot=False, quiet=0.05) as it:
        it.session.activate()
        await it.take(offer("a"))
        await until(lambda: "complete" in sink.events)
        await asyncio.sleep(0.15)
        assert sink.events == ["begin", "a", "complete"]


async def test_nothing_at_all_is_silence_too(consumer, sink):
    async with consumer(snapshot=False, quiet=0.02) as it:
        it.session.activate()
        await until(lambda: sink.events == ["begin", "complete"])


@pytest.mark.parametrize("reason", ["importing", "extension", "peer is gone", "refused for now"])
async def test_silence_does_not_end_a_catalog_that(consumer, sink, reason):
    if reason == "importing":
        sink.open.clear()
    if reason == "refused for now":
        sink.verdict = lambda _: Verdict(UNAVAILABLE, "the registry is down")
    async with consumer(snapshot=False, quiet=0.03) as it:
        it.counts = reason != "peer is gone"
        it.session.activate()
        await it.take(offer("a"))
        if reason == "extension":
            it.extensions = Extensions(snapshot=True)  # it came with the first message
        await asyncio.sleep(0.3)
        if reason == "peer is gone":
            await until(lambda: it.asked > 1, "it looks again: the peer may answer later")
        assert sink.events == ["begin", "a"]
        if reason == "peer is gone":
            it.counts = True
            await until(lambda: "complete" in sink.events)


async def test_the_silence_of_an_owner_that_tries_again_later_must_last(consumer, sink, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_AFTER_REFUSAL", FOR_EVER)
    sink.verdict = lambda _: Verdict(UNAVAILABLE)
    async with consumer(snapshot=False, quiet=0.01) as it:
        it.session.activate()
        await it.take(offer("a"))
        await it.answered(("a", UNAVAILABLE))
        await asyncio.sleep(0.1)
        assert "complete" not in sink.events


async def test_the_silence_of_an_owner_that_has_tried_again_is_one_like_any_other(consumer, sink, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_AFTER_REFUSAL", FOR_EVER)
    verdicts = [Verdict(UNAVAILABLE), Verdict()]
    sink.verdict = lambda _: verdicts.pop(0)
    async with consumer(snapshot=False, quiet=0.01) as it:
        it.session.activate()
        await it.take(offer("a"))
        await it.answered(("a", UNAVAILABLE))
        await asyncio.sleep(0.1)  # it has begun to wait for the long silence
        await it.take(offer("a", "again"))
        await until(lambda: "complete" in sink.events)
        assert it.answers[-1] == ("again", 0)


async def test_a_message_that_comes_while_the_peer_is_asked_breaks_the_silence(consumer, sink):
    asking, go = asyncio.Event(), asyncio.Event()

    async def ask():
        asking.set()
        await go.wait()
        return True

    async with consumer(snapshot=False, quiet=0.05) as it:
        it.session._silence_counts = ask
        it.session.activate()
        await asyncio.wait_for(asking.wait(), 10)
        sink.open.clear()
        await it.take(offer("a"))
        await settle()
        go.set()
        await asyncio.sleep(0.15)
        assert sink.events == ["begin", "a"]
        sink.open.set()
        await until(lambda: "complete" in sink.events)


async def test_the_reader_waits_when_importing_is_far_behind(consumer, sink):
    sink.open.clear()
    async with consumer() as it:
        it.session.activate()
        reader = asyncio.create_task(it.take(*(offer(f"s{n}") for n in range(2 * QUEUE + 10))))
        await until(lambda: it.session.received > QUEUE)
        await settle()
        assert not reader.done()
        sink.open.set()
        await asyncio.wait_for(reader, 20)
        await until(lambda: len(it.answers) == 2 * QUEUE + 10)


async def test_answers_that_are_not_read_do_not_stop_the_reading_and_are_bounded(sink, monkeypatch):
    monkeypatch.setattr(module, "ANSWERS", 5)
    it = Consumer(sink)
    it.frames.open.clear()
    it.session.activate()
    importing, answering, quiet = (asyncio.create_task(loop) for loop in it.session.loops())
    await it.take(*(offer(f"s{n}") for n in range(5)))
    await until(lambda: "s4" in sink.events)
    await it.take(*(offer(f"t{n}") for n in range(5)))
    with pytest.raises(StreamEnd, match="answers unread") as end:
        await asyncio.wait_for(importing, 10)
    assert end.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for task in (answering, quiet):
        task.cancel()
    await asyncio.gather(answering, quiet, return_exceptions=True)


async def test_a_peer_that_reads_nothing_for_long_is_given_up(sink):
    it = Consumer(sink, write_timeout=0.05)
    it.frames.open.clear()
    with pytest.raises(StreamEnd, match="has read nothing") as end:
        await it.session.subscribe()
    assert end.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
