"""One stream: what it dispatches, how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from hamlet_core.rpc.ends import CLOSED_CLEANLY, REDUNDANT
from hamlet_core.rpc.extensions import OURS, PLAIN, Extensions
from hamlet_core.rpc.stream import PeerStream
from hamlet_core.wire.messages import Answer, Offer, Subscribe
from tests.support.sessions import ONE, TWO, FakeCall, service, settle, until


class Script:
    """A running stream and the other side of it."""

    def __init__(self, sink, settings, *, codec=TWO, dialled=False, extensions=PLAIN):
        self.call = FakeCall(codec, dialled=dialled)
        self.subscriptions, self.proofs = [], 0
        self.stream = PeerStream(
            self.call, codec, peer="east", settings=settings, dialled=dialled, extensions=extensions, sink=sink,
            on_subscribe=lambda _, request: self.subscriptions.append(request), on_proven=self._proven,
        )  # fmt: skip

    def _proven(self, stream):
        self.proofs += 1

    def say(self, *frames):
        for frame in frames:
            self.call.inbox.put_nowait(frame)

    def names(self):
        return [message.name for message in self.call.sent.of(Offer)]


@pytest.fixture
def script(sink, peer_settings):
    @asynccontextmanager
    async def make(*beside, settings=None, **options):
        it = Script(sink, settings or peer_settings(), **options)
        before = asyncio.all_tasks()
        task = asyncio.create_task(it.stream.run(*beside))
        await settle()
        try:
            yield it
        finally:
            it.stream.end(grpc.StatusCode.UNAVAILABLE, "the test is over")
            it.end = await asyncio.wait_for(task, 10)
        await settle()
        assert asyncio.all_tasks() == before, "no task is left"

    return make


async def test_a_peer_that_hangs_up_ends_the_stream_cleanly(script):
    async with script() as it:
        it.call.hang_up()
        await until(lambda: not it.stream.open)
    assert (it.end.code, it.end.reason) == (CLOSED_CLEANLY, "the peer ended the stream")


async def test_the_first_reason_stands(script):
    async with script() as it:
        it.stream.end(grpc.StatusCode.FAILED_PRECONDITION, "first")
        it.stream.end(grpc.StatusCode.ABORTED, "second")
    assert it.end.reason == "first"


async def test_a_frame_that_is_none_ends_the_stream_as_invalid(script):
    async with script() as it:
        it.say(b"\xff\xff\xff")
        await until(lambda: not it.stream.open)
    assert it.end.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_that_is_cancelled_under_the_reader_ends_the_stream(script):
    async with script() as it:
        it.say(asyncio.CancelledError())
        await until(lambda: not it.stream.open, "a stream that nobody reads must not stand")
    assert it.end.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("error", [asyncio.InvalidStateError("RPC already finished."), grpc.aio.UsageError("over")])
async def test_a_write_to_a_call_that_is_over_leaves_the_reason_to_its_status(script, error):
    async def refuse(frame):
        raise error

    async with script(dialled=True) as it:
        it.call.write = refuse
        it.stream.subscribe()
        await until(lambda: not it.stream.open)
    assert it.end.code is CLOSED_CLEANLY, "the link asks the call why"


async def test_the_peers_own_status_is_the_end(script):
    async with script(dialled=True) as it:
        metadata = grpc.aio.Metadata()
        it.say(grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, metadata, metadata, details="who are you?"))
        await until(lambda: not it.stream.open)
    assert (it.end.code, it.end.reason) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")


async def test_a_fault_of_ours_ends_the_stream_and_says_so(script):
    async def broken():
        raise ValueError("a fault")

    async with script(broken()) as it:
        await until(lambda: not it.stream.open)
    assert it.end.code is grpc.StatusCode.INTERNAL


async def test_a_cancelled_run_leaves_nothing_behind(sink, peer_settings, catalog):
    before = asyncio.all_tasks()
    it = Script(sink, peer_settings(), extensions=OURS)
    it.stream.subscribe()
    it.stream.publish(catalog.subscribe("all"))
    task = asyncio.create_task(it.stream.run())
    await until(lambda: it.names() == ["a", "b", "c"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert asyncio.all_tasks() == before
    assert not catalog.log("all").readers
    it.stream.end(CLOSED_CLEANLY, "too late, and harmless")


async def test_a_new_subscription_during_a_write_does_not_cut_the_call(script, catalog):
    async with script() as it:
        it.call.sent.open.clear()
        it.stream.publish(catalog.subscribe("all"))
        await settle()
        it.stream.publish(catalog.subscribe("all"))
        await settle()
        it.call.sent.open.set()
        await until(lambda: it.names() == ["a", "a"])
        assert not it.call.cancelled
        assert it.stream.open
        assert len(catalog.log("all").readers) == 1
        # Answers to the earlier subscription are none to this one.
        stale, fresh = (message.nonce for message in it.call.sent.of(Offer))
        assert stale != fresh
        it.say(TWO.answer(Answer(stale), ""))
        await settle()
        assert it.stream.owner.unanswered
        it.say(TWO.answer(Answer(fresh), ""))
        await until(lambda: it.names() == ["a", "a", "b"])


async def test_a_bare_request_acknowledges_the_oldest_message_of_a_plain_stream(script, catalog):
    async with script() as it:
        it.stream.publish(catalog.subscribe("all"))
        await until(lambda: it.names() == ["a"])
        it.say(TWO.subscribe(""))
        await until(lambda: it.names() == ["a", "b"])
        assert it.subscriptions == []


async def test_a_request_of_our_kind_subscribes_anew_whatever_is_unanswered(script, catalog):
    async with script(extensions=OURS) as it:
        it.stream.publish(catalog.subscribe("all"))
        await until(lambda: it.names() == ["a", "b", "c"])
        it.say(TWO.subscribe("shop"))
        await until(lambda: it.subscriptions == [Subscribe(TWO.resource_url, "shop")])


async def test_a_peer_is_proven_once_by_what_it_sends_as_an_owner(script, sink):
    async with script(dialled=True) as it:
        it.say(TWO.subscribe(""))
        await settle()
        assert it.proofs == 0
        for nonce in "12":
            it.say(TWO.offer(nonce, TWO.pack(service("x")), "", created=True))
        await until(lambda: len(it.call.sent.of(Answer)) == 2)
        assert it.proofs == 1


async def test_agreed_extensions_prove_the_peer_and_open_the_window(script, catalog):
    async with script(dialled=True) as it:
        it.stream.publish(catalog.subscribe("all"))
        await until(lambda: it.names() == ["a"])
        it.stream.negotiated(Extensions(snapshot=True, window=3))
        await until(lambda: it.names() == ["a", "b", "c"])
        assert it.proofs == 1


@pytest.mark.parametrize(
    ("dialled", "address", "speaks", "ends"),
    [
        (True, "127.0.0.1:1", False, True),
        (False, None, False, True),
        (False, "127.0.0.1:1", False, False),
        (False, "127.0.0.1:1", True, True),
    ],
)
async def test_silence_ends_a_catalog_only_where_the_peer_is_an_owner(
    script, sink, peer_settings, dialled, address, speaks, ends
):
    settings = peer_settings(address=address, quiet="20ms")
    async with script(settings=settings, dialled=dialled) as it:
        it.stream.subscribe()
        if speaks:
            it.say(TWO.offer("1", TWO.pack(service("x")), "", created=True))
        if ends:
            await until(lambda: "complete" in sink.events)
        else:
            await asyncio.sleep(0.3)
            assert sink.events == ["begin"], "it may have dialled only to consume"


async def test_the_silence_of_a_peer_that_does_not_answer_ends_no_catalog(script, sink, peer_settings):
    asked = asyncio.Event()

    async def gone():
        asked.set()
        return False

    async with script(settings=peer_settings(quiet="10ms"), dialled=True) as it:
        it.stream.alive = gone
        it.stream.subscribe()
        await asyncio.wait_for(asked.wait(), 10)
        await settle()
        assert sink.events == ["begin"]


async def test_a_stream_without_a_role_ends_as_redundant_and_one_with_a_role_stays(script, catalog):
    async with script(dialled=True) as it:
        it.stream.publish(catalog.subscribe("all"))
        it.stream.close_when_idle(0.01)
        await asyncio.sleep(0.1)
        assert it.stream.open
        it.stream.unpublish()
        it.stream.close_when_idle(0.01)
        await until(lambda: not it.stream.open)
    assert it.end is REDUNDANT


async def test_a_v1alpha1_server_has_no_consumer_and_a_v1alpha1_client_has_one(sink, peer_settings):
    served = Script(sink, peer_settings(), codec=ONE, dialled=False)
    dialled = Script(sink, peer_settings(), codec=ONE, dialled=True)
    assert served.stream.consumer is None
    assert dialled.stream.consumer is not None
