"""Two agents as processes of their own: what an operator sees of a federation from its first day to its last."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

import pytest

from hamlet_core.identity import authority
from tests.e2e.conftest import Launch
from tests.support.meshes import Mesh
from tests.support.processes import wait_until


def federate(west: Mesh, east: Mesh, **changes: object) -> None:
    """Let each list the other."""
    west.configure({"east": east.peer(**changes)})
    east.configure({"west": west.peer(backoff_cap="1s", **changes)})


def only_dialled(owner: Mesh, consumer: Mesh) -> None:
    """Let each list the other, and have but one stream ever: only the consumer knows where the other one is."""
    owner.configure({consumer.name: consumer.peer(address=None)})
    consumer.configure({owner.name: owner.peer(backoff_cap="1s")})


@pytest.mark.parametrize("api", ["v1alpha1", "v1alpha2", "auto"])
def test_services_appear_change_and_go_in_both_directions(west: Mesh, east: Mesh, launch: Launch, api: str) -> None:
    federate(west, east, api=api)
    west.write_service("orders")
    east.write_service("stock")
    agents = launch(west), launch(east)
    wait_until(lambda: "orders.west.example" in east.imported_names("west"))
    wait_until(lambda: "stock.east.example" in west.imported_names("east"))
    west.write_service("orders", tag="v2")
    wait_until(lambda: "v2" in east.imported("west")["orders.west.example"])
    west.remove_service("orders")
    wait_until(lambda: not east.imported_names("west"))
    assert west.imported_names("east") == {"stock.east.example"}
    for agent, peer in zip(agents, ("east", "west"), strict=True):
        agent.state(peer, "imports", "live")
        agent.state(peer, "exports", "live")


def test_two_agents_that_list_each_other_keep_one_stream(west: Mesh, east: Mesh, launch: Launch) -> None:
    federate(west, east)
    second = launch(east)
    wait_until(lambda: second.peer("west").get("attempts"), what="it dials, and so will before west does")
    first = launch(west)
    for agent, peer in ((first, "east"), (second, "west")):
        agent.state(peer, "imports", "live")
        agent.state(peer, "exports", "live")

    def streams() -> list[list[str]]:
        return [[s["dialled_by"] for s in a.peer(p)["streams"]] for a, p in ((first, "east"), (second, "west"))]

    wait_until(lambda: streams() == [["peer"], ["us"]], what="east dials first: its trust domain sorts before west's")


def test_reachability_overrules_who_dials_first(west: Mesh, east: Mesh, launch: Launch) -> None:
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(address=None)})  # east would dial first, and cannot
    first, second = launch(west), launch(east)
    found = first.state("east", "imports", "live")
    assert [stream["dialled_by"] for stream in found["streams"]] == ["us"]
    second.state("west", "imports", "live")


def test_a_restart_loses_and_deletes_nothing_and_writes_nothing_anew(west: Mesh, east: Mesh, launch: Launch) -> None:
    federate(west, east)
    for number in range(20):
        west.write_service(f"s{number}")
    owner, consumer = launch(west), launch(east)
    wait_until(lambda: len(east.imported_names("west")) == 20)
    folder = east.folder / "mesh" / "imported" / "west"
    before = {path.name: path.stat().st_ino for path in folder.glob("s*")}
    for agent in (consumer, owner):
        assert agent.end() == 0
        assert len(east.imported_names("west")) == 20
        agent.start()
        consumer.state("west", "imports", "live")
        assert {path.name: path.stat().st_ino for path in folder.glob("s*")} == before, "the same files"


def test_a_stopped_peer_is_noticed_and_what_it_had_is_kept_until_retention_ends(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(retain="8s")})
    west.write_service("orders")
    owner, consumer = launch(west), launch(east)
    consumer.state("west", "imports", "live")
    owner.send(signal.SIGSTOP)
    found = consumer.state("west", "imports", "stale")["imports"]
    assert (bool(found["lost_since"]), found["standing"]) == (True, 1)
    wait_until(lambda: not east.imported_names("west"), what="retention ends")
    assert datetime.now(UTC) >= datetime.fromisoformat(found["kept_until"]), "and not before"
    owner.send(signal.SIGCONT)
    wait_until(lambda: east.imported_names("west"), what="it comes back", within=60)


def test_removing_a_peer_withdraws_at_once_and_sighup_leaves_other_streams_alone(
    west: Mesh, east: Mesh, launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    north = Mesh(root=west.root, name="north")
    for mesh in (west, north):
        mesh.configure({"east": east.peer(address=None)})  # one stream ever: that which east has dialled
        mesh.write_service("orders")
    east.configure({"west": west.peer(), "north": north.peer(backoff_cap="1s")})
    agents = {mesh.name: launch(mesh) for mesh in (west, north, east)}
    wait_until(lambda: east.imported_names("west") and east.imported_names("north"))
    agents["east"].state("north", "imports", "live")
    since = agents["east"].peer("north")["streams"][0]["since"]
    east.configure({"north": north.peer(backoff_cap="1s")})
    agents["east"].send(signal.SIGHUP)
    wait_until(lambda: not east.imported_names("west"), what="west is gone from east's registry")
    assert east.imported_names("north") == {"orders.north.example"}
    assert agents["east"].peer("north")["streams"][0]["since"] == since, "its stream stayed up"


def test_policy_changes_reach_a_standing_stream(west: Mesh, east: Mesh, launch: Launch) -> None:
    only_dialled(west, east)
    for name in ("a", "b"):
        west.write_service(name)
    owner, consumer = launch(west, "--watch"), launch(east)
    wait_until(lambda: len(east.imported_names("west")) == 2)
    consumer.state("west", "imports", "live")
    since = owner.peer("east")["streams"][0]["since"]
    rules = [{"select": {"name": "a"}, "to": "all", "direct": True}]
    west.configure({"east": east.peer(address=None)}, publish=rules)
    wait_until(lambda: east.imported_names("west") == {"a.west.example"}, what="b is withdrawn")
    assert owner.peer("east")["streams"][0]["since"] == since


def test_streams_whose_authority_was_removed_are_closed_and_others_stay(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    only_dialled(west, east)
    west.write_service("orders")
    owner, consumer = launch(west), launch(east)
    consumer.state("west", "imports", "live")
    owner.state("east", "imports", "live")
    since = owner.peer("east")["streams"][0]["since"]
    authority.issue(west.folder / "pki")  # a new certificate of the same authority
    fresh = west.folder / "fresh"
    authority.init(fresh, west.trust_domain)
    west_bundle = west.bundle.read_bytes()
    wait_until(lambda: "certificates reloaded" in owner.log.read_text())
    assert owner.peer("east")["streams"][0]["since"] == since, "a rotated certificate disturbs nothing"
    replaced = west.bundle.with_suffix(".new")
    replaced.write_bytes((fresh / "bundle.pem").read_bytes())
    replaced.replace(west.bundle)  # east now trusts another authority for west's trust domain
    wait_until(lambda: not consumer.peer("west")["streams"], what="the stream is closed")
    consumer.state("west", "imports", "stale")
    assert east.imported_names("west") == {"orders.west.example"}, "and nothing is deleted"
    replaced.write_bytes(west_bundle)
    replaced.replace(west.bundle)
    consumer.state("west", "imports", "live", within=60)


def test_leaving_a_peer_withdraws_what_came_from_it_and_removes_orphans(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    federate(west, east)
    west.write_service("orders")
    launch(west)
    consumer = launch(east)
    wait_until(lambda: east.imported_names("west"))
    consumer.end()
    east.configure({})
    consumer.start()
    orphans = wait_until(lambda: consumer.status().get("orphans"))
    assert orphans == [{"peer": "west", "service": "orders.west.example"}]
    assert east.imported_names("west"), "an orphan is not removed by itself"
    assert any("hamlet leave west" in finding["mend"] for finding in consumer.ask("check")["findings"])
    assert consumer.ask("leave", peer="west")["removed"]
    assert not east.imported_names("west")


def test_two_agents_on_one_folder_one_writes_and_the_other_says_so(west: Mesh, east: Mesh, launch: Launch) -> None:
    federate(west, east)
    twin = Mesh(root=west.root, name="twin")
    twin.configure({"west": west.peer()}, registries={"twin": {"kind": "file", "path": str(east.folder / "mesh")}})
    west.configure({"east": east.peer(), "twin": twin.peer()})
    west.write_service("orders")
    launch(west)
    launch(east)
    wait_until(lambda: east.imported_names("west"))
    second = launch(twin)
    found = second.state("west", "imports", "syncing", "live")
    assert found
    findings = wait_until(
        lambda: [f for f in second.ask("check")["findings"] if "another agent" in f["message"].lower()],
        what="the second one says that another agent writes",
    )
    assert findings


def test_a_mesh_of_two_registries_publishes_from_both_and_imports_where_it_is_told(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    second = Mesh(root=west.root, name="second")  # only its folder is used: a second registry of east
    east.configure(
        {"west": west.peer(import_into=["second"])},
        registries={
            "main": {"kind": "file", "path": "mesh"},
            "second": {"kind": "file", "path": str(second.folder / "mesh")},
        },
    )
    west.configure({"east": east.peer()})
    west.write_service("orders")
    east.write_service("stock")
    second.write_service("tools")
    launch(west)
    consumer = launch(east)
    wait_until(lambda: west.imported_names("east") == {"stock.east.example", "tools.east.example"})
    wait_until(lambda: second.imported_names("west") == {"orders.west.example"})
    assert not east.imported_names("west")
    second.services.rename(second.folder / "away")
    wait_until(
        lambda: {r["name"]: r["publishing"]["state"] for r in consumer.status()["registries"]}["second"] == "silent"
    )
    west.write_service("more")
    assert west.imported_names("east") == {"stock.east.example", "tools.east.example"}, "silence withdraws nothing"
    (second.folder / "away").rename(second.services)
    wait_until(lambda: "more.west.example" in second.imported_names("west"), what="what came meanwhile is not lost")
