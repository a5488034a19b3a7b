"""The owner's role: what it sends, what it makes of answers, when it gives a consumer up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from hamlet_core.rpc.ends import StreamEnd
from hamlet_core.rpc.extensions import Extensions
from hamlet_core.rpc.owner import LONGEST_REASON, OwnerSession
from hamlet_core.wire.messages import Answer, Offer, SnapshotEnd, Withdraw
from tests.support.sessions import TWO, Frames, service, settle, until

UNAVAILABLE, INVALID = 14, 3


class Owner:
    """A session, and the consumer's side of it."""

    def __init__(self, catalog, *, extensions, ack_timeout=30.0):
        self.extensions = extensions
        self.frames = Frames(TWO, from_server=True)
        self.subscription = catalog.subscribe("all")
        self.session = OwnerSession(
            TWO, self.subscription, self.frames.send, context="shop", extensions=lambda: self.extensions,
            ack_timeout=ack_timeout,
        )  # fmt: skip

    @property
    def names(self):
        return [getattr(message, "name", "end") for message in self.frames.messages]

    async def sends(self, *names):
        """Wait until exactly these were sent, and nothing follows of itself."""
        await until(lambda: len(self.names) >= len(names), f"{names}; sent was {self.names}")
        await settle()
        assert self.names == list(names)

    def answer(self, number, code=0, message=""):
        """Answer the message of this place, from 0."""
        self.session.answered(Answer(self.frames.messages[number].nonce, code, message))


@pytest.fixture
def owner(catalog):
    @asynccontextmanager
    async def make(window=256, snapshot=False, **options):
        owner = Owner(catalog, extensions=Extensions(window=window, snapshot=snapshot), **options)
        task = asyncio.create_task(owner.session.run())
        try:
            yield owner
        finally:
            owner.session.stop()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
        assert not catalog.log("all").readers, "the subscription is closed"
        owner.end = task.exception()

    return make


async def test_no_more_than_the_window_is_unanswered(owner):
    async with owner(window=2) as it:
        await it.sends("a", "b")
        it.answer(1)
        await it.sends("a", "b", "c")
        assert it.session.status().lag == 2
        it.answer(0)
        it.answer(2)
        assert it.session.synced
    assert it.end is None


async def test_more_is_sent_as_soon_as_the_window_becomes_known(owner):
    async with owner(window=1) as it:
        await it.sends("a")
        it.extensions = Extensions(window=8, snapshot=True)
        it.session.extensions_changed()
        await it.sends("a", "b", "c", "end")


async def test_the_end_of_the_catalog_is_sent_once_after_everything(owner, catalog):
    async with owner(window=2, snapshot=True) as it:
        await it.sends("a", "b")
        it.answer(0)
        it.answer(1)
        await it.sends("a", "b", "c", "end")
        assert it.frames.of(SnapshotEnd)[0].services == 3
        it.answer(2)
        it.answer(3)
        catalog.put("all", service("d"))
        catalog.remove("all", "a")
        await it.sends("a", "b", "c", "end", "d", "a")
        assert isinstance(it.frames.messages[-1], Withdraw)


async def test_an_empty_catalog_ends_at_once(owner, catalog):
    for name in "abc":
        catalog.remove("all", name)
    async with owner(snapshot=True) as it:
        await it.sends("end")


async def test_an_answer_without_nonce_is_about_the_oldest_and_unknown_or_repeated_ones_are_nothing(owner):
    async with owner() as it:
        await it.sends("a", "b", "c")
        it.session.answered(Answer("", INVALID, "no"))
        it.session.answered(Answer("never sent", INVALID, "no"))
        it.answer(1)
        it.answer(1, INVALID, "too late")
        assert it.session.status().rejected == {"a": "no"}
        it.session.answered(Answer(""))
        it.session.answered(Answer(""))  # nothing is unanswered
        assert it.session.synced


async def test_what_the_consumer_cannot_take_now_is_sent_again_and_holds_up_nothing(owner, at_once):
    async with owner(window=1) as it:
        await it.sends("a")
        it.answer(0, UNAVAILABLE)
        await it.sends("a", "a")
        it.answer(1)
        await it.sends("a", "a", "b")
        assert it.session.status().retrying == 0


async def test_a_retry_counts_once_as_lag(owner, at_once):
    async with owner() as it:
        await it.sends("a", "b", "c")
        it.answer(0, UNAVAILABLE)
        await it.sends("a", "b", "c", "a")
        assert (it.session.status().lag, it.session.status().retrying) == (3, 1)


async def test_of_a_service_that_changed_only_the_latest_state_is_tried_again(owner, catalog, monkeypatch):
    monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 0.05)
    async with owner(window=1) as it:
        await it.sends("a")
        catalog.put("all", service("a", "new"))
        it.answer(0, UNAVAILABLE)
        for number in (1, 2, 3):
            await until(lambda number=number: len(it.names) > number)
            it.answer(number)
        await asyncio.sleep(0.1)
        assert sorted(it.names) == ["a", "a", "b", "c"], "in the order of when each was due"
        offered = [each.service for each in it.frames.of(Offer)]
        assert [each.description for each in offered if each.name == "a"] == ["", "new"]


async def test_a_service_withdrawn_while_it_waits_for_a_retry_is_withdrawn(owner, catalog, at_once):
    async with owner() as it:
        await it.sends("a", "b", "c")
        catalog.remove("all", "a")
        await it.sends("a", "b", "c", "a")
        it.answer(0, UNAVAILABLE)
        it.answer(3)
        await settle()
        assert isinstance(it.frames.messages[-1], Withdraw)
        assert it.session.status().retrying == 0


async def test_a_refusal_is_kept_without_the_length_the_consumer_gave_it(owner, catalog):
    async with owner() as it:
        await it.sends("a", "b", "c")
        it.answer(0, INVALID, "x" * 1_000_000)
        it.answer(1, INVALID)
        rejected = it.session.status().rejected
        assert rejected == {"a": "x" * LONGEST_REASON, "b": "refused with code 3 and no reason"}
        catalog.put("all", service("a", "mended"))
        await it.sends("a", "b", "c", "a")
        it.answer(3)
        assert "a" not in it.session.status().rejected


@pytest.mark.parametrize(("reads", "said"), [(True, "has not answered about a"), (False, "has read nothing")])
async def test_a_consumer_that_does_not_answer_or_read_is_given_up(catalog, reads, said):
    it = Owner(catalog, extensions=Extensions(), ack_timeout=0.05)
    if not reads:
        it.frames.open.clear()
    with pytest.raises(StreamEnd, match=said) as end:
        await asyncio.wait_for(it.session.run(), 20)
    assert end.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not catalog.log("all").readers


async def test_a_consumer_that_fell_too_far_behind_must_subscribe_anew(catalog):
    it = Owner(catalog, extensions=Extensions())
    task = asyncio.create_task(it.session.run())
    await it.sends("a")
    for number in range(20):
        catalog.put("all", service(f"s{number}"))
    for number in range(20):
        catalog.remove("all", f"s{number}")
        catalog.put("all", service(f"t{number}"))
        catalog.remove("all", f"t{number}")
    with pytest.raises(StreamEnd, match="subscribe anew") as end:
        await asyncio.wait_for(task, 20)
    assert end.value.code is grpc.StatusCode.ABORTED


async def test_a_move_to_another_audience_sends_the_difference(owner, catalog):
    catalog.put("few", service("a"))
    catalog.put("few", service("z"))
    async with owner(snapshot=True) as it:
        await it.sends("a", "b", "c", "end")
        it.session.move("few")
        await until(lambda: len(it.names) == 7)
        assert it.names[4] == "z"
        assert {message.name for message in it.frames.of(Withdraw)} == {"b", "c"}
    assert not catalog.log("few").readers


async def test_a_session_stopped_before_it_ran_leaves_no_reader_in_the_log(catalog):
    it = Owner(catalog, extensions=Extensions())
    it.session.stop()
    assert not catalog.log("all").readers
    await asyncio.wait_for(it.session.run(), 10)
    assert it.names == []


async def test_a_session_stopped_in_the_middle_of_a_frame_finishes_it_and_sends_no_more(catalog):
    it = Owner(catalog, extensions=Extensions(window=8, snapshot=True))
    it.frames.open.clear()
    task = asyncio.create_task(it.session.run())
    await settle()
    it.session.stop()
    it.frames.open.set()
    await asyncio.wait_for(task, 10)
    assert it.names == ["a"]
