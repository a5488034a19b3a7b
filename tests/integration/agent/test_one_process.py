"""A whole process of the agent, run here: it starts, takes over what is configured, and says what it refused."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading

import pytest
from click.testing import CliRunner

from hamlet_core.agent.run import Process
from hamlet_core.api import HamletError
from hamlet_core.cli import main
from hamlet_core.config import load
from tests.support.meshes import eventually, serving_as_a_command


async def test_a_process_that_cannot_start_ends_instead_of_hanging(west):
    west.configure({}, admin={"http": "127.0.0.1:0"})
    with socket.create_server(("127.0.0.1", west.port)):
        starting = Process(load.read(west.config_path), watch=False)
        with pytest.raises(HamletError, match="cannot listen"):
            await asyncio.wait_for(starting.run(), 60)
    assert not (west.folder / "hamlet.sock").exists()


async def test_a_process_takes_over_a_configuration_on_a_signal_and_ends_on_another(west, east):
    west.configure({})
    async with serving_as_a_command(west) as agent:
        assert (await agent.ask("status"))["peers"] == []
        west.configure({"east": east.peer()})
        signal.raise_signal(signal.SIGHUP)
        await agent.status_once(lambda said: said["peers"])
    assert not agent.socket.exists()
    await eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("hamlet-watch")])


async def test_why_a_configuration_was_not_taken_over_is_told_by_status_until_one_is(west, east):
    west.configure({})
    async with serving_as_a_command(west) as agent:
        assert (await agent.ask("status"))["reload_refused"] == ""
        west.configure({"east": east.peer()}, listen="127.0.0.1:1")
        signal.raise_signal(signal.SIGHUP)
        said = await agent.status_once(lambda said: "listen cannot change" in said["reload_refused"])
        assert "restart the agent" in said["reload_refused"]
        assert said["peers"] == [], "nothing of it is in force"
        shown = await asyncio.to_thread(
            CliRunner().invoke, main, ["-c", str(west.config_path), "status"], prog_name="hamlet"
        )
        assert "has not taken over this configuration: listen cannot change" in " ".join(shown.output.split())
        west.configure({"east": east.peer()})
        signal.raise_signal(signal.SIGHUP)
        said = await agent.status_once(lambda said: not said["reload_refused"])
        assert [peer["name"] for peer in said["peers"]] == ["east"]


async def test_status_does_not_show_what_was_in_force_before_as_the_configuration_that_was_taken_over(
    west, east, monkeypatch
):
    west.configure({})
    async with serving_as_a_command(west) as agent:
        west.configure({"east": east.peer()}, listen="127.0.0.1:1")
        with pytest.raises(HamletError, match="listen cannot change"):
            await agent.ask("reload")
        in_force = agent.process._in_force

        async def mended_meanwhile():
            west.configure({"east": east.peer()})
            await agent.process._reload()
            return await in_force()

        monkeypatch.setattr(agent.process, "_in_force", mended_meanwhile)
        said = await agent.ask("status")
        assert ([peer["name"] for peer in said["peers"]], said["reload_refused"]) == (["east"], "")


async def test_a_refused_configuration_that_was_put_back_is_no_longer_spoken_of(west):
    level = west.folder / "level"
    level.write_text("info")
    west.configure({}, log={"level": "file:level"})
    async with serving_as_a_command(west) as agent:
        for wrong, put_back in (
            (level.unlink, lambda: level.write_text("info")),
            (lambda: west.configure({"east": {}}), lambda: west.configure({}, log={"level": "file:level"})),
        ):
            wrong()
            signal.raise_signal(signal.SIGHUP)
            await agent.status_once(lambda said: said["reload_refused"])
            assert (await agent.ask("status"))["reload_refused"], "it is still so"
            put_back()
            assert (await agent.ask("status"))["reload_refused"] == ""


async def test_a_file_behind_links_is_followed_as_a_configmap_is_mounted(west, east):
    for name, peers in (("first", {}), ("second", {"east": east.peer()})):
        (west.folder / name).mkdir()
        west.configure(peers)
        west.config_path.rename(west.folder / name / west.config_path.name)
    (data := west.folder / "..data").symlink_to("first")
    west.config_path.symlink_to(data / west.config_path.name)
    async with serving_as_a_command(west, Process(load.read(west.config_path), watch=True)) as agent:
        assert (await agent.ask("status"))["peers"] == []
        (fresh := west.folder / "..fresh").symlink_to("second")
        fresh.replace(data)
        await agent.status_once(lambda said: said["peers"])


async def test_what_changes_before_the_file_is_followed_is_taken_over(west, east):
    west.configure({})
    process = Process(load.read(west.config_path), watch=True)
    west.configure({"east": east.peer()})
    async with serving_as_a_command(west, process) as agent:
        await agent.status_once(lambda said: said["peers"])


async def test_a_reload_that_a_change_of_the_lead_ends_is_made_up_for(west, monkeypatch):
    west.configure({})
    process = Process(load.read(west.config_path), watch=False)
    begun = asyncio.Event()

    async def endless():
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(process, "_reload", endless)
    reloads = asyncio.create_task(process._reloads())
    process._reload_asked.set()
    await begun.wait()
    assert not process._reload_asked.is_set()
    reloads.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloads
    assert process._reload_asked.is_set()
