"""Two agents of one mesh: one leads, the other stands by, and peers lose nothing when the first ends, however."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hamlet_file.coordinator import FileCoordinator, FileCoordinatorOptions

from hamlet_core.api import AdapterContext
from tests.e2e.conftest import Launch
from tests.support.meshes import PATIENCE, Mesh
from tests.support.ports import free_port
from tests.support.processes import AgentProcess, wait_until


@pytest.fixture
def twin(west: Mesh) -> Mesh:
    """The folder of the other agent of mesh west: its own configuration, the same mesh, the same registry."""
    return Mesh(root=west.root, name="twin")


PATIENT = "from hamlet_core.cli import main; from hamlet_file import coordinator; coordinator.TTL = 12.0; main()"
"""The agent with a lead that lasts for longer than a machine may stand still: who leads is for the test to say."""


@pytest.fixture
def locks(west: Mesh, twin: Mesh, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lock file is; each agent sees it as `locks` in its own folder, which can be taken from it."""
    monkeypatch.setattr(AgentProcess, "program", (sys.executable, "-c", PATIENT))
    folder = west.root / "locks"
    folder.mkdir()
    for mesh in (west, twin):
        (mesh.folder / "locks").symlink_to(folder)
    names = {"mesh": "west", "domain": west.trust_domain, "trust_domain": west.trust_domain}
    context = AdapterContext(name="coordinator", directory=folder, **names)
    FileCoordinator(FileCoordinatorOptions(path=folder), context).make()
    (made,) = folder.iterdir()
    os.utime(made, (0, 0))  # nobody can hold an earlier file of this name
    return folder


@pytest.fixture
def agents(west: Mesh, twin: Mesh, east: Mesh, locks: Path, launch: Launch) -> tuple[AgentProcess, AgentProcess]:
    """The two agents of west, of which the first leads, and that of east, which has an import of it."""
    coordinator = {"kind": "file", "path": "locks"}
    peers = {"east": east.peer(backoff_cap="1s")}
    west.configure(peers, coordinator=coordinator)
    twin.configure(
        peers,
        coordinator=coordinator,
        mesh={"name": "west", "domain": "west.example", "trust_domain": "west.example"},
        identity={key: str(west.folder / "pki" / name) for key, name in IDENTITY.items()},
        listen=west.address,
        admin={"http": f"127.0.0.1:{free_port()}"},
        registries={"west": {"kind": "file", "path": str(west.folder / "mesh")}},
    )
    east.configure({"west": west.peer(backoff_cap="1s")})
    west.write_service("orders")
    east.write_service("stock")
    first = launch(west)
    wait_until(lambda: leads(first), what="the only agent leads")
    second, peer = launch(twin), launch(east)
    wait_until(second.status, what="the other agent answers")
    peer.state("west", "imports", "live")
    wait_until(lambda: "stock.east.example" in west.imported_names("east"))
    return first, second


IDENTITY = {"certificate": "agent.crt", "key": "agent.key", "bundle": "bundle.pem"}


def leads(agent: AgentProcess) -> bool:
    """Whether an agent says that it leads."""
    return leading(agent.status())


def leading(status: dict[str, Any]) -> bool:
    """Whether this is the status of an agent that leads."""
    return bool((status.get("coordinator") or {}).get("leading"))


@contextlib.contextmanager
def always(*checks: Callable[[], bool]) -> Iterator[None]:
    """Look all the time whether the checks hold while the context lasts, and fail if one ever did not."""
    over = threading.Event()
    faults: list[str] = []

    def look() -> None:
        while not over.wait(0.02):
            faults.extend(check.__doc__ or "" for check in checks if not check())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not faults, f"it was not always so that {faults[0]} ({len(faults)} times)"


@pytest.fixture
def kept(west: Mesh, east: Mesh, agents: tuple[AgentProcess, AgentProcess]) -> list[Callable[[], bool]]:
    """What must hold all the time."""
    first, second = agents

    files = [
        mesh.folder / "mesh" / "imported" / peer / f"{name}.yaml"
        for mesh, peer, name in ((east, "west", "orders.west.example"), (west, "east", "stock.east.example"))
    ]

    def imports() -> bool:
        """each side has the other's service"""
        return all(each.exists() for each in files)  # a listing may miss a file that is just replaced

    def one() -> bool:
        """at most one of them leads"""
        before, other, after = first.status(), second.status(), first.status()
        led = leading(before) and leading(after) and before["started"] == after["started"]  # and all the while
        return not (led and leading(other))

    return [imports, one]


def test_a_killed_leader_is_followed_and_nobody_loses_an_import(
    west: Mesh,
    east: Mesh,
    agents: tuple[AgentProcess, AgentProcess],
    kept: list[Callable[[], bool]],
) -> None:
    first, second = agents
    with always(*kept):
        for leader, standby in ((first, second), (second, first), (first, second)):
            assert leads(leader)
            leader.kill()
            wait_until(lambda standby=standby: leads(standby), what="the other one leads")
            standby.state("east", "imports", "live")
            standby.state("east", "exports", "live")
            leader.start()
            wait_until(lambda leader=leader: leader.status().get("not_ready"), what="the killed one stands by")
    west.write_service("more")
    wait_until(lambda: "more.west.example" in east.imported_names("west"), what="the new leader publishes")
    west.remove_service("orders")
    wait_until(lambda: "orders.west.example" not in east.imported_names("west"), what="and withdraws")


def test_a_leader_that_is_stopped_or_loses_its_lead_deletes_nothing_and_stands_by_afterwards(
    west: Mesh,
    twin: Mesh,
    agents: tuple[AgentProcess, AgentProcess],
    kept: list[Callable[[], bool]],
    locks: Path,
) -> None:
    first, second = agents
    with always(*kept):
        assert first.end() == 0
        wait_until(lambda: leads(second), what="the other one leads")
        second.state("east", "imports", "live")
        first.start()
        wait_until(lambda: first.status().get("not_ready"), what="the first stands by")
        (twin.folder / "locks").unlink()
        wait_until(lambda: leads(first), what="the first leads again, as the other cannot know any more")
        first.state("east", "imports", "live")
        wait_until(lambda: "locks" in second.status()["not_ready"], what="the other says why")
        (twin.folder / "locks").symlink_to(locks)
        wait_until(lambda: second.status()["not_ready"] == "standing by: another agent leads")
    assert "streams of a removed peer do not end" not in first.log.read_text() + second.log.read_text()
    assert west.imported_names("east") == {"stock.east.example"}


def run(mesh: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config_path), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def page(mesh_config: Path, path: str) -> tuple[int, str]:
    """What the loopback port of an agent answers."""
    address = next(line.split(": ")[-1] for line in mesh_config.read_text().splitlines() if "http:" in line)
    try:
        with urllib.request.urlopen(f"http://{address.strip(' }')}/{path}", timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_agent_that_stands_by_says_so_wherever_it_is_asked(
    twin: Mesh, agents: tuple[AgentProcess, AgentProcess]
) -> None:
    first, second = agents
    wait_until(lambda: second.status()["not_ready"] == "standing by: another agent leads")
    said = run(twin, "status")
    assert (said.returncode, said.stderr) == (0, "")
    assert "standing by: another agent leads" in said.stdout
    document: dict[str, Any] = json.loads(run(twin, "status", "--json").stdout)
    assert document.keys() == first.status().keys()
    assert document["coordinator"] == {"kind": "file", "leading": False, "error": ""}
    assert page(twin.config_path, "readyz") == (503, "standing by: another agent leads\n")
    assert page(twin.config_path, "healthz") == (200, "ok\n")
    assert "\nhamlet_leading 0.0\n" in page(twin.config_path, "metrics")[1]
    assert json.loads(run(twin, "services", "--json").stdout) == {"published": [], "imported": []}
    findings = [each["message"] for each in second.ask("check")["findings"]]
    assert {"standing by: another agent leads", "another agent holds it"} <= set(findings)
    for command in (["plan"], ["leave", "east", "--yes"], ["confirm", "east"]):
        refused = run(twin, *command)
        assert refused.returncode == 1
        assert "ask the agent that leads" in refused.stderr
    assert any("this agent leads" in each["message"] for each in first.ask("check")["findings"])


def test_a_configuration_that_is_taken_over_while_standing_by_is_in_force_when_it_leads(
    west: Mesh, east: Mesh, twin: Mesh, agents: tuple[AgentProcess, AgentProcess]
) -> None:
    first, second = agents
    text = twin.config_path.read_text()
    twin.config_path.write_text(
        text.replace("name: west,", "name: other,", 1).replace("name: west\n", "name: other\n", 1)
    )
    second.send(signal.SIGHUP)
    wait_until(lambda: "mesh cannot change while the agent runs" in second.log.read_text())
    twin.config_path.write_text(text.replace("quiet: 300ms", "quiet: 400ms\n    accept: [nothing.example]"))
    second.send(signal.SIGHUP)
    wait_until(lambda: "configuration taken over" in second.log.read_text())
    first.kill()
    wait_until(lambda: leads(second), what="the other one leads")
    found = second.state("east", "imports", "live", "held")
    assert "stock.east.example" in found["imports"]["rejected"]
