"""When a peer is dialled, how long it is left alone, and what a failure leads to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from hamlet_core import backoff
from hamlet_core.rpc import link as module
from hamlet_core.rpc.ends import CLOSED_CLEANLY, REDUNDANT, StreamEnd
from hamlet_core.rpc.link import Link
from hamlet_core.rpc.peering import Peering
from tests.support.sessions import ONE, TWO, settle, until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class ScriptedLink(Link):
    """A link whose dials come to what the script says: (whether the peer answered, how it ended)."""

    def __init__(self, peering, script):
        super().__init__(peering, None, None)
        self.script = script
        self.dials = 0

    async def _dial(self, address):
        self.dials += 1
        if not self.script:
            await asyncio.Event().wait()
        answered, end = self.script.pop(0)
        self._answered = answered
        return end


@pytest.fixture
def delays(monkeypatch):
    """The numbers of the attempts that were waited for; no time passes."""
    asked = []

    def delay(attempt, cap):
        asked.append(attempt)
        return 0.0

    monkeypatch.setattr(backoff, "delay", delay)
    monkeypatch.setattr(backoff, "FIRST", 0.0)
    return asked


@pytest.fixture
def link(sink, peer_settings):
    @asynccontextmanager
    async def make(*script, dials_first=True, **settings):
        peering = Peering(
            "east", peer_settings(**settings), sink, subscription=lambda _: None, dials_first=dials_first
        )
        it = ScriptedLink(peering, list(script))
        it.peering = peering
        it.task = asyncio.create_task(it.run())
        try:
            yield it
        finally:
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)

    return make


class DialledIn:
    """A v1alpha1 stream that the peer opened: it carries its subscription and none of ours."""

    codec, dialled, proven, open, consuming = ONE, False, False, True, False
    consumer = owner = None

    def unpublish(self):
        """Nothing is published on it."""


unreachable = (False, StreamEnd(UNAVAILABLE, "connection refused"))
not_ready = (True, StreamEnd(UNAVAILABLE, "come back later"))


async def test_an_unreachable_peer_is_dialled_with_growing_delays(link, delays):
    async with link(*[unreachable] * 5) as it:
        await until(lambda: it.dials == 6)
        assert delays == [0, 1, 2, 3, 4]
        assert it.attempts == 5
        assert it.peering.last_error == "connection refused"


async def test_a_peer_that_is_up_again_and_not_ready_is_soon_asked_again(link, delays):
    async with link(*[unreachable] * 4, *[not_ready] * 3, unreachable) as it:
        await until(lambda: it.dials == 9)
        assert delays == [0, 1, 2, 3, 0, 1, 2, 3]


unknown = (True, StreamEnd(grpc.StatusCode.UNAUTHENTICATED, "who are you?"))


async def test_a_peer_that_does_not_know_us_is_not_dialled_until_a_reload(link, delays):
    async with link(unknown, unknown) as it:
        await until(lambda: it.rejected)
        await settle()
        assert (it.dials, delays) == (1, [])
        it.try_again()
        await until(lambda: it.dials == 2)
        await until(lambda: it.rejected)
        await settle()
        assert (it.dials, delays) == (2, [])


async def test_a_peer_that_did_not_know_us_and_dials_us_is_dialled_again_when_its_stream_ends(link, delays):
    stream = DialledIn()
    stream.proven = stream.consuming = True
    async with link(unknown) as it:
        await until(lambda: it.rejected)
        it.peering.attach(stream)
        await until(lambda: not it.rejected)
        await settle()
        assert it.dials == 1, "its own stream serves"
        stream.open = stream.proven = stream.consuming = False
        it.peering.changed.set()
        await until(lambda: it.dials == 2)
        assert delays == []


async def test_a_peer_that_dials_us_and_will_not_be_dialled_is_not_asked_over_and_over(link, delays):
    async with link(unknown, unknown) as it:
        await until(lambda: it.rejected)
        it.peering.attach(DialledIn())
        await until(lambda: it.dials == 2)
        await until(lambda: it.rejected)
        await settle()
        assert (it.dials, delays) == (2, [])


async def test_news_end_the_wait_for_the_next_dial_and_the_growth_of_the_delays(link, monkeypatch):
    asked = []
    monkeypatch.setattr(
        backoff, "delay", lambda attempt, _: asked.append(attempt) or (3600.0 if len(asked) > 2 else 0)
    )
    async with link(*[unreachable] * 6) as it:
        await until(lambda: it.attempts == 3)
        await settle()
        assert it.dials == 3
        it.try_again()
        await until(lambda: len(asked) == 4)
        await settle()
        assert (it.dials, asked) == (4, [0, 1, 2, 0])


async def test_news_that_come_while_it_is_dialled_are_not_lost(link, monkeypatch):
    monkeypatch.setattr(backoff, "delay", lambda *_: 3600.0)
    async with link(unreachable, unknown, unreachable) as it:
        dial = it._dial

        async def with_news(address):
            if it.dials < 2:
                it.try_again()
            return await dial(address)

        it._dial = with_news
        await until(lambda: it.dials == 3)
        await settle()
        assert it.dials == 3, "and nothing else hurries it"


async def test_a_stream_that_was_not_needed_is_no_failure(link, delays):
    async with link((True, REDUNDANT)) as it:
        await until(lambda: it.dials == 2)
        assert (it.attempts, it.peering.last_error, delays) == (0, "", [])


async def test_a_peer_without_address_is_waited_for(link):
    async with link(address=None) as it:
        await asyncio.wait_for(it.task, 10)
        assert (it.dials, it.waits) == (0, True)
        assert not it.rejected


async def test_the_side_that_does_not_dial_first_waits_a_while(link, monkeypatch):
    monkeypatch.setattr(module, "DIAL_DELAY", 3600.0)
    async with link(dials_first=False) as it:
        await settle()
        assert (it.dials, it.waits) == (0, True)
    monkeypatch.setattr(module, "DIAL_DELAY", 0.1)
    async with link(dials_first=False) as it:
        await until(lambda: it.dials == 1)
        assert not it.waits


@pytest.mark.parametrize(
    ("codecs", "ends", "tried"),
    [
        ((TWO, ONE), [grpc.StatusCode.UNIMPLEMENTED, UNAVAILABLE], ["v1alpha2", "v1alpha1"]),
        ((TWO, ONE), [UNAVAILABLE], ["v1alpha2"]),
        ((TWO, ONE), [CLOSED_CLEANLY], ["v1alpha2"]),
        ((TWO,), [grpc.StatusCode.UNIMPLEMENTED], ["v1alpha2"]),
    ],
)
async def test_another_version_is_tried_only_where_the_first_is_not_implemented(link, codecs, ends, tried):
    used, left = [], list(ends)

    async def establish(channel, codec):
        used.append(codec.api)
        return StreamEnd(left.pop(0), "")

    async with link(address=None) as it:
        it._establish = establish
        end = await it._stream(None, codecs)
    assert used == tried
    assert end.code is ends[-1]


async def test_a_peer_that_dials_us_is_dialled_without_further_delay(link, monkeypatch):
    monkeypatch.setattr(backoff, "delay", lambda *_: 3600.0)
    async with link(unreachable, api="v1alpha1") as it:
        await until(lambda: it.dials == 1 and it.attempts == 1)
        assert it.dials == 1
        it.peering.attach(DialledIn())
        await until(lambda: it.dials == 2)


async def test_a_stream_that_stood_before_does_not_hurry_the_next_dial(link, monkeypatch):
    monkeypatch.setattr(backoff, "delay", lambda *_: 3600.0)
    async with link(unreachable, api="v1alpha1") as it:
        it.peering.attach(DialledIn())
        await until(lambda: it.attempts == 1)
        it.peering.changed.set()
        await settle()
        assert it.dials == 1
