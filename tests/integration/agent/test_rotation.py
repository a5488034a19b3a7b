"""A value behind a reference changes while the agent runs: the rest of a reload is taken over, and that is told."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from click.testing import CliRunner

from hamlet_core.cli import main
from hamlet_core.config.problems import ConfigProblems
from tests.support.meshes import Mesh, running, serving_as_a_command

KEY = "registries.west.path"


@pytest.fixture
def west(tmp_path):
    mesh = Mesh(root=tmp_path, name="west")
    (mesh.folder / "other").mkdir()
    (mesh.folder / "where").write_text("mesh")
    return mesh


def registry():
    return {"registries": {"west": {"kind": "file", "path": "file:where"}}}


async def test_what_is_behind_a_reference_waits_for_a_restart_and_blocks_nothing(west, tmp_path):
    east = Mesh(root=tmp_path, name="east")
    west.write_service("a")
    west.configure({}, **registry())
    async with running(west) as agent:
        before = agent.agent.config
        (west.folder / "where").write_text("other")
        west.configure({"east": east.peer()}, **registry())
        await agent.reload()
        assert set(agent.agent.peerings) == {"east"}, "the rest is in force"
        assert agent.agent.config.registries == before.registries
        assert agent.reporter.status()["rotated"] == [KEY]
        (west.folder / "where").write_text("mesh")
        await agent.reload()
        assert agent.reporter.status()["rotated"] == []


async def test_a_value_that_the_next_start_would_refuse_is_refused(west):
    at = west.folder / "where"
    at.write_text("http://127.0.0.1:1")
    west.configure({}, registries={"west": {"kind": "consul", "address": "file:where"}})
    async with running(west, ready=False) as agent:
        at.write_text("nowhere")
        with pytest.raises(ConfigProblems, match=r"registries\.west\.address"):
            await agent.reload()
        assert agent.reporter.status()["rotated"] == []


async def test_a_reload_says_what_waits_and_status_and_check_go_on_saying_it(west):
    west.configure({}, **registry())
    async with serving_as_a_command(west) as agent:
        (west.folder / "where").write_text("other")
        with structlog.testing.capture_logs() as logs:
            assert await agent.ask("reload") == {"rotated": [KEY]}
        mends = [(each["key"], each["mend"]) for each in logs if "key" in each]
        assert mends == [(KEY, "restart the agent to take it")]
        said = await agent.ask("status")
        assert (said["rotated"], said["reload_refused"]) == ([KEY], "")
        shown = await asyncio.to_thread(CliRunner().invoke, main, ["-c", str(west.config_path), "status"])
        assert f"{KEY} is another now than the one in use: restart the agent to take it" in " ".join(
            shown.output.split()
        )
        found = (await agent.ask("check"))["findings"]
        (finding,) = [each for each in found if each["subject"] == "configuration"]
        assert KEY in finding["message"]
