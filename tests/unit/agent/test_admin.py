import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager

import pytest

from hamlet_core.agent.admin import AdminServer, AgentUnreachable, call
from hamlet_core.api import HamletError


async def ping(request):
    return {"mesh": "west", "said": request}


async def refuse(request):
    raise HamletError("cannot", mend="do this " + "x" * 100_000)


async def crash(request):
    raise ValueError("a fault")


@asynccontextmanager
async def serving(path):
    server = AdminServer(path, {"ping": ping, "refuse": refuse, "crash": crash})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(path, method="ping", **request):
    return await asyncio.to_thread(call, path, method, request, timeout=20.0)


async def test_the_socket_is_our_own_from_its_first_instant(tmp_path, monkeypatch):
    path, modes = tmp_path / "folder" / "hamlet.sock", []
    server = AdminServer(path, {"ping": ping})
    bind, before = server._server.add_insecure_port, os.umask(0o022)

    def bind_and_look(address):
        bind(address)
        modes.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(server._server, "add_insecure_port", bind_and_look)
    try:
        await server.start()
        assert os.umask(0o022) == 0o022, "files made later are not affected"
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert await ask(path, peer="east") == {"mesh": "west", "said": {"peer": "east"}}
    await server.stop()
    assert not path.exists()


async def test_a_dead_agents_socket_is_replaced(tmp_path):
    path = tmp_path / "hamlet.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    async with serving(path):
        assert (await ask(path))["mesh"] == "west"


async def test_a_living_agent_is_left_alone(tmp_path):
    path = tmp_path / "hamlet.sock"
    async with serving(path):
        with pytest.raises(HamletError, match="another agent answers") as error:
            await AdminServer(path, {}).start()
        assert "admin.socket" in error.value.mend
        assert (await ask(path))["mesh"] == "west"


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "hamlet.sock"
    path.write_text("precious")
    with pytest.raises(HamletError, match="no socket"):
        await AdminServer(path, {}).start()
    assert path.read_text() == "precious"


async def test_a_path_that_cannot_be_is_an_error_with_its_mend(tmp_path):
    with pytest.raises(HamletError, match="cannot make the admin socket") as error:
        await AdminServer(tmp_path / ("x" * 120), {}).start()
    assert "107" in error.value.mend


async def test_errors_arrive_in_the_agents_own_words(tmp_path):
    path = tmp_path / "hamlet.sock"
    async with serving(path):
        with pytest.raises(HamletError, match="cannot") as refused:
            await ask(path, "refuse")
        assert refused.value.mend.startswith("do this x")
        with pytest.raises(HamletError, match="a fault") as crashed:
            await ask(path, "crash")
        assert crashed.value.mend == "its log has the cause"
        with pytest.raises(HamletError, match="UNIMPLEMENTED"):
            await ask(path, "unknown")
    with pytest.raises(AgentUnreachable, match=str(path)):
        await ask(path)


async def test_an_agent_of_another_version_is_told_as_such(tmp_path):
    path = tmp_path / "hamlet.sock"
    async with serving(path):
        said = await ask(path, peers=[{"name": "east"}])
    assert json.loads(json.dumps(said)) == {"mesh": "west", "said": {"peers": [{"name": "east"}]}}
    (peer,) = said["said"]["peers"]
    with pytest.raises(HamletError, match="does not say 'kept_until': it is of another version") as missing:
        peer["kept_until"]
    assert missing.value.mend.startswith("restart it")
