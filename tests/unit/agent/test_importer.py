"""From the messages of an owner into a registry and back: what is answered, and when, whatever the registry does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from hamlet_core.agent import importer as module
from hamlet_core.agent.supervise import Supervisor
from hamlet_core.api import AdapterError, Outcome, RegistryUnavailable, Status
from hamlet_core.rpc.consumer import Received
from hamlet_core.wire.messages import Offer, Unreadable, Withdraw
from tests.support.sessions import service, until

OK, INVALID, UNAVAILABLE = 0, 3, 14


def offer(name, size=100):
    return Received(Offer("n", service(name)), size)


def withdraw(name):
    return Received(Withdraw("n", name), 10)


@asynccontextmanager
async def lane_of(importer):
    """Run the importer's one lane, as the agent does: again after a crash."""
    (lane,) = importer.lanes
    supervisor = Supervisor()
    supervisor.start("imports", lane.run)
    try:
        yield lane
    finally:
        await supervisor.stop_all()


async def codes(importer, *received):
    return [verdict.code for verdict in await importer.deliver("east", received)]


def standing(memory):
    return sorted(key.name for key in memory.imported())


async def test_what_is_taken_stands_in_the_registry_before_it_is_acknowledged(importer, make_port, memory):
    it = importer(make_port())
    async with lane_of(it):
        it.begin("east")
        assert await codes(it, offer("a.east.example"), offer("b.east.example")) == [OK, OK]
        assert standing(memory) == ["a.east.example", "b.east.example"]
        assert await codes(it, withdraw("a.east.example"), withdraw("never.example")) == [OK, OK]
        assert standing(memory) == ["b.east.example"]


async def test_what_can_never_be_taken_is_refused_with_the_reason_and_the_rest_goes_on(importer, make_port, memory):
    memory.refuse["c.east.example"] = "the memory does not like it"
    it = importer(make_port())
    async with lane_of(it):
        it.begin("east")
        verdicts = await it.deliver(
            "east",
            [
                offer("a.east.example"),
                offer("not a name"),
                offer("c.east.example"),
                offer("d.east.example", size=10**7),
                Received(Unreadable("n", "e.east.example", "torn"), 1),
                Received(Unreadable("n", "", "torn"), 1),
            ],
        )
        assert [verdict.code for verdict in verdicts] == [OK, INVALID, INVALID, INVALID, INVALID, INVALID]
        assert verdicts[2].reason == "our registry cannot hold it", "the owner learns nothing of our insides"
        assert "max_message_bytes" in verdicts[3].reason
        assert standing(memory) == ["a.east.example"]


async def test_refusals_too_many_or_too_long_to_be_listed_are_refused_all_the_same(importer, make_port, memory):
    it = importer(make_port())
    async with lane_of(it):
        it.begin("east")
        bad = [offer(f"bad name {number}") for number in range(1_500)] + [offer("x" * 5_000)]
        assert set(await codes(it, *bad)) == {INVALID}
        assert standing(memory) == []


async def test_a_registry_that_fails_halfway_gets_the_rest_later_and_nothing_is_lost(
    importer, make_port, memory, at_once, monkeypatch
):
    monkeypatch.setattr(module, "BATCH", 2)
    it = importer(make_port())
    port, calls = it.lanes[0].port, []
    apply = port.apply

    async def fail_in_the_middle(changes):
        calls.append(len(changes))
        if len(calls) == 2:
            raise RegistryUnavailable("gone for a moment")
        return await apply(changes)

    port.apply = fail_in_the_middle
    names = [f"s{number}.east.example" for number in range(6)]
    async with lane_of(it):
        it.begin("east")
        found = await codes(it, *map(offer, names))
        assert set(found) <= {OK, UNAVAILABLE}
        await until(lambda: standing(memory) == names)
        assert set(await codes(it, *map(offer, names))) == {OK}


@pytest.mark.parametrize("error", [AdapterError("a fault"), ValueError("a fault"), RegistryUnavailable("a fault")])
async def test_no_error_whatever_leaves_a_change_behind_that_is_never_tried_again(
    importer, make_port, memory, at_once, error
):
    it = importer(make_port())
    lane = it.lanes[0]
    apply, failing = lane.port.apply, True

    async def fail_once(changes):
        nonlocal failing
        if failing:
            failing = False
            raise error
        return await apply(changes)

    lane.port.apply = fail_once
    it.begin("east")
    async with lane_of(it):
        assert await codes(it, offer("a.east.example")) in ([OK], [UNAVAILABLE])
        await until(lambda: standing(memory) == ["a.east.example"])


async def test_while_a_registry_is_down_owners_are_told_at_once_to_come_back(
    importer, make_port, memory, monkeypatch
):
    monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 0.2)
    monkeypatch.setattr(module, "ANSWER_WITHIN", 3600.0)
    it = importer(make_port())
    async with lane_of(it) as lane:
        with memory.outage():
            lane.look_again()
            await until(lambda: lane.error)
            it.begin("east")
            verdicts = await asyncio.wait_for(it.deliver("east", [offer("a.east.example")]), 60)
            assert verdicts[0].code == UNAVAILABLE
            assert verdicts[0].reason == "our registry has not taken it yet", (
                "the owner learns nothing of our insides"
            )
            assert "out of reach" in lane.error, "the operator does"
        await until(lambda: standing(memory), "it is written once the registry is back")
        await until(lambda: lane.error == "")
        assert await codes(it, offer("a.east.example")) == [OK]


async def test_what_stands_already_is_acknowledged_although_the_registry_is_down(importer, make_port, memory):
    it = importer(make_port())
    async with lane_of(it) as lane:
        it.begin("east")
        assert await codes(it, offer("a.east.example")) == [OK]
        with memory.outage():
            lane.look_again()
            await until(lambda: lane.error)
            assert await codes(it, offer("a.east.example"), offer("b.east.example")) == [OK, UNAVAILABLE]


async def test_a_registry_that_hangs_keeps_nobody_waiting_for_ever(importer, make_port, memory, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.2)
    it = importer(make_port(call_timeout=0.5))
    async with lane_of(it) as lane:
        await until(lambda: lane._look_at)
        it.begin("east")
        with memory.held():
            assert await codes(it, offer("a.east.example")) == [UNAVAILABLE]
            await until(lambda: lane.error, "status says that the registry takes nothing")
        await until(lambda: standing(memory) == ["a.east.example"])


async def test_an_entry_that_someone_edited_or_deleted_is_written_again(importer, make_port, memory, monkeypatch):
    monkeypatch.setattr(module, "DRIFT_CHECK", 0.1)
    it = importer(make_port())
    async with lane_of(it):
        it.begin("east")
        await codes(it, offer("a.east.example"), offer("b.east.example"))
        writes = memory.writes
        (edited,) = [each for each in memory.imported().values() if each.key.name == "a.east.example"]
        memory.edit_import(edited)
        await until(lambda: memory.writes > writes, "the edited one is mended")
        with memory.lock:
            del memory.by_name["b.east.example"]
        await until(lambda: standing(memory) == ["a.east.example", "b.east.example"], "the deleted one is back")


async def test_a_conflict_about_one_service_holds_up_no_other(importer, make_port, memory, at_once):
    tried = []

    def apply(changes):
        tried.extend(change.key.name for change in changes)
        return [
            Outcome(key=change.key, status=Status.RETRY, reason="a concurrent edit")
            if change.key.name == "a.east.example" and tried.count("a.east.example") < 3
            else Outcome(key=change.key, status=Status.APPLIED)
            for change in changes
        ]

    it = importer(make_port(registry_apply=apply))
    async with lane_of(it) as lane:
        it.begin("east")
        assert await codes(it, offer("a.east.example"), offer("b.east.example")) == [UNAVAILABLE, OK]
        assert lane.error == ""
        await until(lambda: tried.count("a.east.example") == 3)


async def test_nothing_is_taken_of_a_peer_that_is_none(importer, make_port, memory):
    it = importer(make_port())
    verdicts = await it.deliver("north", [offer("a.north.example")])
    assert [verdict.code for verdict in verdicts] == [UNAVAILABLE]


async def test_leaving_a_peer_is_done_when_nothing_of_it_is_left(importer, make_port, memory):
    it = importer(make_port())
    async with lane_of(it):
        it.begin("east")
        await codes(it, offer("a.east.example"))
        it.complete("east")
        it.lost("east")
        it.leave("east")
        assert await it.emptied("east", timedelta(seconds=20))
        assert standing(memory) == []


async def test_a_registry_that_comes_back_is_not_waited_for_any_longer(importer, make_port, memory, monkeypatch):
    monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 3600.0)
    it = importer(make_port())
    async with lane_of(it) as lane:
        it.begin("east")
        with memory.outage():
            lane.look_again()
            await until(lambda: lane.error)
        lane.look_again()  # as the agent does when the watch has a snapshot again
        await until(lambda: not lane.error, "the next look did not wait for the hour to pass")
        assert await codes(it, offer("a.east.example")) == [OK]
