"""Which stream carries which role, with streams that only remember what they were told."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from hamlet_core.rpc.peering import STREAMS, Peering
from hamlet_core.wire.messages import Subscribe
from tests.support.sessions import ONE, TWO, settle


class FakeConsumer:
    def __init__(self, stream):
        self.stream = stream
        self.active = False

    def retire(self):
        self.active = False


class FakeStream:
    """Everything of a `PeerStream` that a peering touches."""

    def __init__(self, name, *, dialled=False, proven=False, codec=TWO):
        self.name, self.dialled, self.proven, self.codec = name, dialled, proven, codec
        self.consumer = FakeConsumer(self) if codec.bidirectional or dialled else None
        self.owner = None
        self.open = True
        self.ended = None
        self.subscriptions = 0
        self.idle_timers = 0

    @property
    def consuming(self):
        return self.consumer is not None and self.consumer.active

    def subscribe(self):
        self.subscriptions += 1
        self.consumer.active = True

    def publish(self, subscription):
        self.owner = subscription

    def unpublish(self):
        self.owner = None

    def end(self, code, reason):
        self.open, self.ended = False, self.ended or (code, reason)

    def close_when_idle(self, seconds):
        self.idle_timers += 1


class Table:
    def __init__(self, sink, settings, *, dials_first=True, ready=True):
        self.published = 0
        self.ready = ready
        self.peering = Peering("east", settings, sink, subscription=self._subscription, dials_first=dials_first)

    def _subscription(self, peer):
        self.published += 1
        return f"subscription {self.published}" if self.ready else None

    def up(self, name, **kind):
        stream = FakeStream(name, **kind)
        self.peering.attach(stream)
        return stream

    def asks(self, stream, context="", url=TWO.resource_url):
        self.peering.subscribed(stream, Subscribe(url, context))

    def down(self, stream):
        stream.open = False
        self.peering.detach(stream)

    @property
    def roles(self):
        consumer, owner = self.peering.consumer_stream, self.peering.owner_stream
        return (consumer and consumer.name, owner and owner.name)


@pytest.fixture
def table(sink, peer_settings):
    return lambda *, settings=None, **options: Table(sink, settings or peer_settings(), **options)


ours, theirs = {"dialled": True}, {"dialled": False}
proven = {"proven": True}


@pytest.mark.parametrize(
    ("dials_first", "first", "second", "wanted"),
    [
        # two agents of our kind: both know both streams, and both sides choose the same
        (True, ours | proven, theirs | proven, "first"),
        (True, theirs | proven, ours | proven, "second"),
        (False, ours | proven, theirs | proven, "second"),
        (False, theirs | proven, ours | proven, "first"),
        # the peer was restarted and dials again while its old stream is half dead: the newest
        (True, theirs | proven, theirs | proven, "second"),
        # known to serve beats everything else
        (True, ours, theirs | proven, "second"),
        (True, theirs | proven, ours, "first"),
        # nothing is known: a peer may dial only to consume, so the one that we dialled
        (False, theirs, ours, "second"),
        (True, theirs, ours, "second"),
        (False, ours, theirs, "first"),
        (False, theirs, theirs, "second"),
        # only a stream that can carry both roles, or that we dialled, can carry ours
        (True, theirs | {"codec": ONE}, theirs, "second"),
        (False, ours | {"codec": ONE}, theirs | {"codec": ONE}, "first"),
    ],
)
def test_of_two_streams_one_carries_our_subscription(table, dials_first, first, second, wanted):
    it = table(dials_first=dials_first)
    it.up("first", **first)
    it.up("second", **second)
    assert it.roles[0] == wanted
    assert sum(stream.consuming for stream in it.peering.streams) == 1


def test_what_is_found_out_about_a_stream_can_move_our_subscription(table):
    it = table(dials_first=True)
    theirs_, ours_ = it.up("theirs", proven=True), it.up("ours", dialled=True)
    assert it.roles[0] == "theirs"
    ours_.proven = True
    it.peering.proven(ours_)
    assert it.roles[0] == "ours"
    assert not theirs_.consuming


def test_our_subscription_survives_the_loss_of_its_stream_and_is_lost_with_the_last(table, sink):
    it = table()
    first, second = it.up("first", dialled=True, proven=True), it.up("second", proven=True)
    it.down(first)
    assert it.roles[0] == "second"
    assert second.subscriptions == 1
    assert sink.events == []
    it.down(second)
    assert sink.events == ["lost"]


def test_the_peer_is_served_where_it_asked_last_and_again_on_what_is_left(table):
    it = table()
    first, second = it.up("first"), it.up("second")
    it.asks(first)
    it.asks(second)
    assert (first.owner, second.owner) == (None, "subscription 2")
    it.down(second)
    assert first.owner == "subscription 3"
    it.asks(first)
    assert first.owner == "subscription 4", "asking anew is a walk from the beginning"


@pytest.mark.parametrize("way", ["attach", "detach", "ask"])
def test_a_stream_that_is_about_to_end_gets_no_role(table, way):
    it = table()
    dying = it.up("dying", dialled=True, proven=True)
    it.asks(dying)
    other = it.up("other", proven=True)
    assert it.roles == ("dying", "dying")
    dying.end(grpc.StatusCode.UNAVAILABLE, "gone")
    if way == "attach":
        it.up("third", proven=True)
        assert it.roles == ("third", None)
    elif way == "detach":
        it.down(dying)
        assert it.roles == ("other", None)
    else:
        it.asks(dying)
        it.asks(other)
        assert it.roles == ("other", "other")
    assert dying.subscriptions == 1


@pytest.mark.parametrize(
    ("context", "url", "code"),
    [
        ("bank", TWO.resource_url, grpc.StatusCode.FAILED_PRECONDITION),
        ("shop", "type.googleapis.com/other.Thing", grpc.StatusCode.INVALID_ARGUMENT),
        ("shop", "", None),
        ("shop", TWO.resource_url, None),
    ],
)
def test_a_request_for_something_else_ends_the_stream_with_the_reason(table, peer_settings, context, url, code):
    it = table(settings=peer_settings(context="shop"))
    stream = it.up("theirs")
    it.asks(stream, context, url)
    if code is None:
        assert stream.open
        assert stream.owner
    else:
        assert stream.ended[0] is code
        assert not stream.owner


def test_a_mesh_that_is_not_ready_says_come_later(table):
    it = table(ready=False)
    stream = it.up("theirs")
    it.asks(stream)
    assert stream.ended[0] is grpc.StatusCode.UNAVAILABLE


def test_a_stream_of_ours_beside_another_is_closed_when_it_has_no_role(table):
    it = table(dials_first=False)
    ours_ = it.up("ours", dialled=True, proven=True)
    assert ours_.idle_timers == 0
    theirs_ = it.up("theirs", proven=True)
    assert it.roles[0] == "theirs"
    assert (ours_.idle_timers, theirs_.idle_timers) == (1, 0)


def test_a_peer_that_opens_ever_more_streams_loses_the_oldest_that_do_nothing(table):
    it = table()
    streams = [it.up(f"s{number}", proven=True) for number in range(2)]
    it.asks(streams[0])
    streams += [it.up(f"s{number}", proven=True) for number in range(2, STREAMS + 1)]
    ended = [stream.name for stream in streams if not stream.open]
    assert ended == ["s1"], "s0 publishes"
    assert it.roles == (f"s{STREAMS}", "s0")


@pytest.mark.parametrize(
    ("kind", "served"),
    [(ours, True), (theirs, False), (theirs | proven, True)],
)
def test_a_link_need_not_dial_while_a_stream_is_known_to_serve(table, kind, served):
    it = table()
    assert not it.peering.served
    it.up("stream", **kind)
    assert it.peering.served is served


async def test_a_closed_peering_ends_what_stands_and_what_still_comes_and_tells_when_all_is_gone(table, sink):
    it = table()
    standing = it.up("standing", dialled=True)
    it.peering.close(grpc.StatusCode.UNAVAILABLE, "changed")
    late = it.up("late", proven=True)
    it.asks(late)
    assert standing.ended == late.ended == (grpc.StatusCode.UNAVAILABLE, "changed")
    assert (late.consuming, late.owner) == (False, None)
    drained = asyncio.create_task(it.peering.drained())
    it.down(standing)
    await settle()
    assert not drained.done()
    it.down(late)
    await asyncio.wait_for(drained, 10)
    assert sink.events == ["lost"]
