"""`hamlet verify-adapter`: nobody leads a gateway while it is verified."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hamlet_file.coordinator import FileCoordinator, FileCoordinatorOptions

from hamlet_core.agent.admin import AdminServer
from hamlet_core.api import AdapterContext, AdapterOptions, CoordinatorUnavailable, HamletError, Stop
from hamlet_core.api.testing import MemoryCoordinator
from hamlet_core.api.testing.candidates import Candidate
from hamlet_core.cli import leading
from hamlet_core.cli.settings import Settings
from hamlet_core.cli.subjects import Place, Subject
from tests.unit.cli.toy_runs import ALL, CONFIG, Verify

WEST = AdapterContext(
    name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)
Held = Callable[..., Any]


def test_a_gateway_that_an_agent_leads_is_left_alone(verify: Verify, tmp_path: Path) -> None:
    async def ping(request: dict[str, Any]) -> dict[str, Any]:
        return request

    async def served() -> subprocess.CompletedProcess[str]:
        server = AdminServer(tmp_path / "admin.sock", {"ping": ping})
        await server.start()
        try:
            run = functools.partial(verify, "toy", "--yes", config=config, SHIPS="all")
            return await asyncio.to_thread(run)
        finally:
            await server.stop()

    config = ALL + "admin: {socket: admin.sock}\n"
    done = asyncio.run(served())
    assert done.returncode == 1
    assert (
        "an agent runs with hamlet.yaml: the checks would take from the gateway (toy) all that it leads"
        in done.stderr
    )
    assert "leave the gateway out with --role" in done.stderr
    assert done.stdout == ""


RIVAL = """
from pathlib import Path
from hamlet_core.api import AdapterContext, Stop
from hamlet_file.coordinator import FileCoordinator, FileCoordinatorOptions
from toy_module import doorman

def make(options):
    west = AdapterContext(name="c", mesh="west", domain="w", trust_domain="west.example", directory=Path())
    words = FileCoordinator(FileCoordinatorOptions(path=Path("locks")), west).coordinator_lead(stop=Stop())
    Path("told").write_text(str(next(words)))
    words.close()
    return doorman(options)
"""


def test_the_lead_of_the_mesh_is_held_meanwhile(verify: Verify, tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    coordinator = FileCoordinator(FileCoordinatorOptions(path=locks), WEST)
    with closing(coordinator.coordinator_lead(stop=Stop())) as words:
        next(words)
    (lock,) = locks.iterdir()
    os.utime(lock, (0, 0))  # one that was just made is led by a few seconds later
    (tmp_path / "packages" / "rival.py").write_text(RIVAL)
    config = "gateway: {kind: toy}\ncoordinator: {kind: file, path: locks}\n"
    done = verify("toy", "--backend", "rival:make", "--yes", "--json", config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == 0
    assert (tmp_path / "told").read_text() == "False", "another agent could have led"
    with closing(coordinator.coordinator_lead(stop=Stop())) as words:
        assert next(words), "it was not given up"


@pytest.fixture
def memory() -> MemoryCoordinator:
    return MemoryCoordinator(ttl=15.0)  # claimed every other second, and not lost by a machine that stands still


@pytest.fixture
def held(memory: MemoryCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Keep others from a gateway of a configuration whose coordinator is the memory."""
    (tmp_path / "hamlet.yaml").write_text(CONFIG + "gateway: {kind: toy}\ncoordinator: {kind: memory}\n")

    def subject(place: Place) -> Subject:
        return Subject(place=place, adapter=memory.adapter_type(), options=AdapterOptions(), directory=tmp_path)

    coordinator = subject(Place(role="coordinator", key="coordinator", kind="memory"))
    monkeypatch.setattr(leading, "subjects", lambda *_, **__: [coordinator])

    def hold(key: str = "gateway", **options: Any) -> Any:
        gateway = subject(Place(role="gateway" if key == "gateway" else "registry", key=key, kind="toy"))
        return leading.led_by_nobody(Settings(config=tmp_path / "hamlet.yaml").read(), [gateway], **options)

    yield hold
    assert memory.claims == {}


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_gateway_that_another_agent_of_the_mesh_leads_is_left_alone(
    memory: MemoryCoordinator, held: Held, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leading, "SAID_AFTER", 0.0)
    other = Candidate(memory.open(WEST), WEST)
    wait(lambda: other.leads)
    with (
        pytest.raises(HamletError, match=r"another agent leads mesh west: .* from the gateway \(toy\)"),
        held(within=0.5),
    ):
        pytest.fail("it went on")
    assert capsys.readouterr().err == "gateway (toy): waiting at most 0.5 s for the lead of mesh west\n"
    with held("local"):
        assert other.leads, "a registry may be led"
    assert other.end(60.0)


def test_a_gateway_is_left_alone_where_nobody_knows_who_leads(memory: MemoryCoordinator, held: Held) -> None:
    memory.add_foreign(WEST)
    said = r"coordinator: west.example/west is somebody else's"
    with pytest.raises(CoordinatorUnavailable, match=said), held():
        pytest.fail("it went on")
    memory.remove_foreign(WEST)


def test_a_lead_that_was_lost_meanwhile_is_told(memory: MemoryCoordinator, held: Held) -> None:
    memory.ttl = 4.5  # that it is lost is found out by two thirds of it

    def lose() -> None:
        memory.add_foreign(WEST)
        wait(lambda: "contract-lead" not in {thread.name for thread in threading.enumerate()})

    with pytest.raises(HamletError, match=r"the lead of mesh west was lost meanwhile"), held():
        lose()
    memory.remove_foreign(WEST)
