"""Why a peer is not linked, as status and check say it, in each state of the link."""

from __future__ import annotations

from hamlet_core.agent.control import Control
from hamlet_core.rpc import link
from tests.support.meshes import eventually, running


async def said_by_check(agent):
    findings = (await Control(agent.agent, agent.reporter, None).methods()["check"]({}))["findings"]
    return [each["message"] for each in findings if each["message"].startswith(("linked", "not linked"))]


async def test_before_the_registry_has_reported_nothing_is_dialled(west, east):
    west.configure({"east": east.peer()})
    west.services.rename(west.folder / "later")
    async with running(west, ready=False) as agent:
        assert agent.peer("east")["not_linked"].startswith("not dialled yet: waiting for the first report")
        (west.folder / "later").rename(west.services)
        await eventually(lambda: "not dialled yet" not in agent.peer("east")["not_linked"])


async def test_a_peer_where_nothing_listens(west, east):
    east.configure({"west": west.peer()})  # east's trust domain sorts first: it dials at once
    async with running(east) as agent:
        await eventually(lambda: agent.peer("west")["attempts"])
        assert agent.peer("west")["not_linked"] == f"nothing listens at {west.address}"
        assert await said_by_check(agent) == [f"not linked: nothing listens at {west.address}"]


async def test_the_side_that_does_not_dial_first_waits_and_one_that_is_linked_has_no_reason(west, east, monkeypatch):
    monkeypatch.setattr(link, "DIAL_DELAY", 3600.0)
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer()})
    async with running(west) as agent:
        assert agent.peer("east")["not_linked"] == "waiting to be dialled"
        assert await said_by_check(agent) == ["not linked: waiting to be dialled"]
        async with running(east):
            await agent.state("east", "imports", "live")
            assert agent.peer("east")["not_linked"] == ""
            assert await said_by_check(agent) == ["linked"]
