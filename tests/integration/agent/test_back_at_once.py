"""The word that a registry is back, or was away, is not lost on a lane that is busy with it at that moment."""

from __future__ import annotations

from hamlet_core import backoff
from hamlet_core.api import RegistryUnavailable
from tests.support.meshes import eventually, running


async def test_a_registry_that_comes_back_while_its_failure_is_told_is_asked_again_at_once(west, monkeypatch):
    west.configure({})
    async with running(west) as agent:
        monkeypatch.setattr(backoff, "delay", lambda *_: 3600.0)
        (lane,) = agent.agent.importer.lanes
        imports, announce, told = lane.port.imports, lane._announce, []

        async def away():
            raise RegistryUnavailable("the folder is away")

        async def back_meanwhile():
            if lane.error:
                told.append(lane.error)
                lane.port.imports = imports
                lane.look_again()
            await announce()

        lane.port.imports, lane._announce = away, back_meanwhile
        lane.look_again()
        await eventually(lambda: told and not lane.error, what="it is asked again")
        assert told == ["the folder is away"]


async def test_what_is_listed_when_the_registry_turns_out_to_have_been_away_is_listed_once_more(west):
    west.configure({})
    async with running(west) as agent:
        (lane,) = agent.agent.importer.lanes
        imports, listed = lane.port.imports, []

        async def away_meanwhile():
            listed.append(await imports())
            if len(listed) == 1:
                lane.look_again()
            return listed[-1]

        lane.port.imports = away_meanwhile
        lane.look_again()
        await eventually(lambda: len(listed) == 2, what="the first listing may be from before")
