"""The commands of daily life against running agents: what they print for programs, and how they exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from hamlet_core.identity import authority
from tests.e2e.conftest import Launch
from tests.support.meshes import PATIENCE, Mesh
from tests.support.ports import free_port
from tests.support.processes import wait_until


def hamlet(mesh: Mesh, *arguments: str, expect: int = 0) -> str:
    """Run a command as an operator would; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config_path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def hamlet_json(mesh: Mesh, *arguments: str, expect: int = 0) -> Any:
    """The same for a program."""
    return json.loads(hamlet(mesh, *arguments, "--json", expect=expect))


@pytest.fixture
def linked(west: Mesh, east: Mesh, launch: Launch) -> tuple[Mesh, Mesh]:
    """Two agents that are up and see each other, on one stream: only east knows where the other one is."""
    west.configure({"east": east.peer(address=None)})
    east.configure({"west": west.peer(backoff_cap="1s")})
    west.write_service("orders")
    agents = launch(west), launch(east)
    (west.folder / "pid").write_text(str(agents[0].pid))
    for agent, peer in zip(agents, ("east", "west"), strict=True):
        agent.state(peer, "imports", "live")
        agent.state(peer, "exports", "live")
    wait_until(lambda: east.imported_names("west"))
    return west, east


def test_status_services_check_and_plan_agree_with_what_is_there(linked: tuple[Mesh, Mesh]) -> None:
    west, east = linked
    status = hamlet_json(east, "status")
    assert status["ready"]
    (peer,) = status["peers"]
    assert (peer["imports"]["state"], peer["imports"]["standing"]) == ("live", 1)
    services = hamlet_json(east, "services", "--peer", "west", "--imported")
    assert [(row["service"], row["state"]) for row in services["imported"]] == [("orders.west.example", "applied")]
    assert "published" not in services
    published = hamlet_json(west, "services", "--published")["published"]
    assert [(row["peer"], row["service"], row["endpoints"]) for row in published] == [
        ("east", "orders.west.example", 1)
    ]
    findings = hamlet_json(west, "check")["findings"]
    assert {finding["severity"] for finding in findings} == {"ok"}
    assert hamlet_json(west, "plan") == {"restart": [], "links": [], "publish": [], "imports": []}
    for command in ("status", "services", "check", "plan"):
        assert "west" in hamlet(west, command) or command == "plan"


def test_plan_shows_what_a_change_would_do_and_does_nothing(linked: tuple[Mesh, Mesh]) -> None:
    west, east = linked
    east_file = east.config_path.read_text()
    east.configure({"west": west.peer(backoff_cap="1s", accept=["nothing.example"])})
    plan = hamlet_json(east, "plan")
    assert plan["imports"] == [
        {"action": "delete", "service": "orders.west.example", "peer": "west", "registry": "east"}
    ]
    assert plan["links"] == ["west"], "the owner hears of the refusals on a new walk"
    assert east.imported_names("west"), "nothing was done"
    east.config_path.write_text(east_file)
    other = west.folder / "other.yaml"
    original = west.config_path.read_bytes()
    west.configure({"east": east.peer(address=None)}, publish=[])
    other.write_bytes(west.config_path.read_bytes())
    west.config_path.write_bytes(original)
    plan = hamlet_json(west, "plan", str(other))
    assert plan["publish"] == [{"action": "withdraw", "service": "orders.west.example", "peer": "east"}]


def test_a_refusal_that_a_changed_policy_lifts_is_lifted_for_the_owner_too(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(accept=["nothing.example"])})
    west.write_service("orders")
    owner, consumer = launch(west), launch(east)
    wait_until(
        lambda: "orders.west.example" in (owner.peer("east") or {"exports": {"rejected": ()}})["exports"]["rejected"]
    )
    east.configure({"west": west.peer()})
    consumer.send(signal.SIGHUP)
    wait_until(lambda: east.imported_names("west"))
    wait_until(lambda: not owner.peer("east")["exports"]["rejected"], what="west no longer says that east refuses it")


def test_a_lost_peers_services_are_listed_as_retained(linked: tuple[Mesh, Mesh]) -> None:
    west, east = linked
    west_pid = int(json.loads((west.folder / "pid").read_text()))
    os.kill(west_pid, signal.SIGTERM)
    rows = wait_until(
        lambda: (
            (found := json.loads(hamlet_any(east, "services"))["imported"])
            and found[0]["state"] == "retained"
            and found
        )
    )
    assert rows[0]["service"] == "orders.west.example"
    assert rows[0]["reason"] == "its peer is lost"
    assert east.imported_names("west"), "and they stand"
    imports = json.loads(hamlet_any(east, "status"))["peers"][0]["imports"]
    assert imports["kept_until"] == rows[0]["kept_until"] > imports["lost_since"]


def test_what_is_wrong_with_files_is_told_by_status_until_it_is_mended(linked: tuple[Mesh, Mesh]) -> None:
    west, east = linked
    for name in ("one", "two"):
        (east.services / f"{name}.yaml").write_text("nonsense")
    good = west.bundle.read_bytes()
    west.bundle.write_bytes(b"garbage")
    said = wait_until(lambda: "not usable" in (text := hamlet_text(east, "status")) and "2 errors" in text and text)
    assert "the bundle of west is not usable, the last good one is in force: `hamlet check` says why" in said
    assert "registry east has 2 errors, the first: " in said
    assert "live" in said
    subjects = {each["subject"] for each in hamlet_json(east, "check", expect=1)["findings"]}
    assert subjects >= {"peer west: bundle", "services/one.yaml", "services/two.yaml"}
    west.bundle.write_bytes(good)
    for name in ("one", "two"):
        east.remove_service(name)
    mended = wait_until(lambda: (s := hamlet_json(east, "status")) and not s["unusable"] and s)
    wait_until(lambda: not hamlet_json(east, "status")["registries"][0]["check"]["errors"])
    assert mended["peers"][0]["imports"]["state"] == "live"


def test_a_peer_that_is_waited_for_is_said_to_be(west: Mesh, east: Mesh, launch: Launch) -> None:
    west.configure({"east": east.peer(address=None)})
    launch(west).state("east", "imports", "connecting")
    wait_until(lambda: "waiting to be dialled" in hamlet_text(west, "status"))
    assert "not linked: waiting to be dialled" in hamlet(west, "check")


def test_an_expired_certificate_is_told_by_status(west: Mesh, launch: Launch) -> None:
    authority.issue(west.folder / "pki", hours=1 / 3600)
    west.configure({})
    agent = launch(west)
    wait_until(agent.status)
    wait_until(lambda: "expired" in hamlet_text(west, "status"))
    wait_until(lambda: "our certificate has expired" in agent.log.read_text())


def test_a_second_agent_of_the_same_configuration_says_that_one_runs(linked: tuple[Mesh, Mesh]) -> None:
    west, _ = linked
    said = hamlet(west, "run", expect=1)
    assert "another agent answers" in said


def test_a_broken_configuration_is_not_taken_over_and_says_where_it_is_wrong(linked: tuple[Mesh, Mesh]) -> None:
    west, east = linked
    west.config_path.write_text(west.config_path.read_text() + "\nnonsense: 1\n")
    said = hamlet(west, "config", "check", expect=2)
    assert "hamlet.yaml:" in said
    assert "nonsense" in said
    assert east.imported_names("west"), "the running agent goes on with the old one"
    said = hamlet(west, "status")
    assert "has not taken over this configuration" in said
    assert "nonsense" in said
    assert "live" in said, "and its status is still to be had"


def test_without_an_agent_the_commands_say_so_with_an_exit_code_of_their_own(west: Mesh) -> None:
    west.configure({})
    said = hamlet(west, "status", expect=3)
    assert "no agent answers" in said
    assert "hamlet run" in said
    findings = hamlet_json(west, "check")["findings"]
    assert any("no agent answers" in finding["message"] for finding in findings), "and check does what it can"


def test_leaving_a_configured_peer_removes_what_came_from_it_and_says_what_is_left_to_do(
    linked: tuple[Mesh, Mesh],
) -> None:
    _, east = linked
    said = hamlet(east, "leave", "west", "--yes")
    assert "remove peers.west" in said
    assert not east.imported_names("west")
    assert "west was left; remove peers.west from the configuration" in hamlet_text(east, "status")
    assert hamlet_json(east, "status")["left"] == ["west"]
    (told,) = [each for each in hamlet_json(east, "check")["findings"] if "it was left" in each["message"]]
    assert told["subject"] == "peer west"
    unknown = hamlet(east, "leave", "nobody", "--yes", expect=1)
    assert "nobody" in unknown


def test_a_mass_removal_that_is_only_inferred_is_held_until_it_is_confirmed(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer()})
    for number in range(4):
        west.write_service(f"s{number}")
    owner = launch(west)
    launch(east)
    wait_until(lambda: len(east.imported_names("west")) == 4)
    owner.end()
    for number in range(3):
        west.remove_service(f"s{number}")
    owner.start()
    status = wait_until(
        lambda: (s := json.loads(hamlet_any(east, "status")))["peers"][0]["imports"]["state"] == "held" and s,
        what="three of four are missing from the new catalog",
    )
    assert len(status["peers"][0]["imports"]["held"]) == 3
    assert len(east.imported_names("west")) == 4
    assert hamlet_json(east, "confirm", "west")["removed"] == 3
    wait_until(lambda: east.imported_names("west") == {"s3.west.example"})


def hamlet_text(mesh: Mesh, *arguments: str) -> str:
    """What a person sees, whatever the exit code."""
    command = [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def hamlet_any(mesh: Mesh, *arguments: str) -> str:
    """As `hamlet`, whatever the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config_path), *arguments, "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout


def test_two_peers_with_one_name_get_an_alias_that_is_reported(west: Mesh, east: Mesh, launch: Launch) -> None:
    north = Mesh(root=west.root, name="north")
    for mesh in (west, north):
        mesh.configure(
            {"east": east.peer(address=None)},
            publish=[{"to": "all", "direct": True, "name": "{name}.shared.example"}],
        )
        mesh.write_service("orders")
    east.configure({mesh.name: mesh.peer(backoff_cap="1s") for mesh in (west, north)})
    launch(west)
    launch(east)
    wait_until(lambda: east.imported_names("west"))
    launch(north)
    wait_until(lambda: east.imported_names("north"))
    assert "orders-north.shared.example" in east.imported("north")["orders.shared.example"]
    peers = {peer["name"]: peer for peer in hamlet_json(east, "status")["peers"]}
    assert peers["north"]["imports"]["aliases"] == {"orders.shared.example": "orders-north.shared.example"}
    assert peers["west"]["imports"]["aliases"] == {}


def test_health_readiness_and_metrics_are_served_on_loopback(west: Mesh, east: Mesh, launch: Launch) -> None:
    port = free_port()
    west.configure({"east": east.peer()}, admin={"http": f"127.0.0.1:{port}"})
    services = west.services.rename(west.folder / "later")
    launch(west)

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:  # nobody listens yet
            return 0, ""

    wait_until(lambda: get("/healthz")[0] == 200)
    code, reason = get("/readyz")
    assert code == 503
    assert "registry west" in reason
    services.rename(west.services)
    wait_until(lambda: get("/readyz")[0] == 200)
    assert 'hamlet_peer_imports_state{peer="east",state="connecting"} 1.0' in get("/metrics")[1]
    assert get("/else")[0] == 404


def test_the_admin_socket_is_its_owners_alone(linked: tuple[Mesh, Mesh]) -> None:
    west, _ = linked
    assert (west.folder / "hamlet.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("options", "called"), [((), True), (("--no-gateway",), False)])
def test_the_demo_tells_a_program_what_happened(options: tuple[str, ...], called: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hamlet_core", "demo", "--json", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) >= 6
    assert all(step["ok"] and step["seconds"] >= 0 and step["step"] for step in steps)
    assert any("through both gateways" in step["step"] for step in steps) is called
