"""The folder services/: events, broken files and their last good version, duplicates."""

import os
import shutil

import pytest
import structlog
from hamlet_file.services import ServiceFiles

from hamlet_core.api import RegistryUnavailable, Severity, Snapshot, Upsert

GOOD = "name: {name}\nport: 8080\nendpoints: [{{address: {address}, port: 8080}}]\n"
BROKEN = "name: orders\nport: many\n"
PATIENCE = 20.0


def good(name, address="10.0.0.5"):
    return GOOD.format(name=name, address=address)


def addresses(state):
    return {name: [endpoint.address for endpoint in service.endpoints] for name, service in state.items()}


def test_only_what_changed_is_reported(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    folder.put("billing.yaml", good("billing"))
    watching = watch(start())
    watching.until(len, PATIENCE)
    folder.put("orders.yaml", good("orders", "10.0.0.6"))
    watching.until(lambda state: addresses(state)["orders"] == ["10.0.0.6"], PATIENCE)
    (change,) = watching.batches[1]
    assert isinstance(change, Upsert)
    assert change.service.name == "orders"
    assert len(watching.batches) == 2


def test_a_file_written_in_place_is_seen(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    watching = watch(start())
    watching.until(len, PATIENCE)
    (folder.services / "orders.yaml").write_text(good("orders", "10.0.0.6"))
    watching.until(lambda state: addresses(state) == {"orders": ["10.0.0.6"]}, PATIENCE)


def test_a_change_that_leaves_size_and_times_as_they_were_is_seen(folder, start, watch):
    path = folder.services / "orders.yaml"
    folder.put(path.name, good("orders"))
    times = path.stat()
    watching = watch(start())
    watching.until(len, PATIENCE)
    path.write_text(good("orders", "10.0.0.6"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    watching.until(lambda state: addresses(state) == {"orders": ["10.0.0.6"]}, PATIENCE)


def test_linked_files_follow_their_folder_when_it_is_exchanged(folder, start, watch):
    """As container platforms mount configuration: each file a link through one link that is exchanged."""
    for version, address in (("..v1", "10.0.0.5"), ("..v2", "10.0.0.6")):
        (folder.services / version).mkdir()
        (folder.services / version / "orders.yaml").write_text(good("orders", address))
    (folder.services / "..data").symlink_to("..v1")
    (folder.services / "orders.yaml").symlink_to("..data/orders.yaml")
    watching = watch(start())
    assert addresses(watching.until(len, PATIENCE)) == {"orders": ["10.0.0.5"]}
    (folder.services / "..new").symlink_to("..v2")
    (folder.services / "..new").replace(folder.services / "..data")
    watching.until(lambda state: addresses(state) == {"orders": ["10.0.0.6"]}, PATIENCE)


def test_files_of_other_kinds_and_hidden_ones_are_ignored(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    folder.put("orders.yaml~", good("backup"))
    folder.put(".hidden.yaml", good("hidden"))
    folder.put("README.md", "# Services\n")
    assert set(watch(start()).until(len, PATIENCE)) == {"orders"}


def test_a_broken_file_keeps_its_last_good_version_and_is_reported_once(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    with structlog.testing.capture_logs() as logs:
        watching = watch(start())
        watching.until(len, PATIENCE)
        folder.put("orders.yaml", BROKEN)
        folder.put("billing.yaml", good("billing"))
        watching.until(lambda state: "billing" in state, PATIENCE)
        folder.put("mail.yaml", good("mail"))
        state = watching.until(lambda state: "mail" in state, PATIENCE)
    assert addresses(state)["orders"] == ["10.0.0.5"]
    problems = [entry["problem"] for entry in logs if "problem" in entry]
    assert len(problems) == 1
    assert problems[0].startswith("services/orders.yaml:2: port: ")


def test_a_broken_file_that_is_mended_counts_again(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    watching = watch(start())
    watching.until(len, PATIENCE)
    folder.put("orders.yaml", BROKEN)
    folder.put("orders.yaml", good("orders", "10.0.0.6"))
    watching.until(lambda state: addresses(state) == {"orders": ["10.0.0.6"]}, PATIENCE)


@pytest.mark.parametrize("broken", [BROKEN, ""], ids=["malformed", "empty"])
def test_a_file_broken_while_no_agent_ran_keeps_its_last_good_version(folder, start, watch, broken):
    folder.put("orders.yaml", good("orders"))
    first = watch(start())
    first.until(len, PATIENCE)
    first.end(PATIENCE)
    folder.put("orders.yaml", broken)
    again = watch(start())
    again.until(lambda _: True, PATIENCE)
    assert isinstance(again.batches[0], Snapshot)
    assert addresses(again.state) == {"orders": ["10.0.0.5"]}


def test_a_file_removed_while_no_agent_ran_is_withdrawn_and_forgotten(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    first = watch(start())
    first.until(len, PATIENCE)
    first.end(PATIENCE)
    (folder.services / "orders.yaml").unlink()
    second = watch(start())
    second.until(lambda state: state == {}, PATIENCE)
    second.end(PATIENCE)
    folder.put("orders.yaml", BROKEN)
    watch(start()).until(lambda state: state == {}, PATIENCE)


def test_a_file_that_never_was_good_hides_no_other(folder, start, watch):
    folder.put("broken.yaml", BROKEN)
    folder.put("orders.yaml", good("orders"))
    agent = start()
    assert set(watch(agent).until(len, PATIENCE)) == {"orders"}
    errors = [each for each in agent.registry_check() if each.severity is Severity.ERROR]
    assert [(each.subject, each.message.split(": ")[0]) for each in errors] == [
        ("services/broken.yaml", "services/broken.yaml:2")
    ]


def test_what_counts_until_a_file_is_corrected_is_told(folder, start, watch):
    folder.put("a.yaml", good("orders"))
    folder.put("b.yaml", good("orders"))
    folder.put("emptied.yaml", "[]\n")
    agent = start()
    with structlog.testing.capture_logs() as logs:
        watching = watch(agent)
        watching.until(len, PATIENCE)
        folder.put("a.yaml", BROKEN)
        folder.put("emptied.yaml", BROKEN)
        folder.put("new.yaml", BROKEN)
        folder.put("mail.yaml", good("mail"))
        watching.until(lambda state: "mail" in state, PATIENCE)
    told = {each.subject: each.mend for each in agent.registry_check() if each.severity is Severity.ERROR}
    assert told == {
        "services/a.yaml": "correct the file; until then what it said last counts",
        "services/b.yaml": "correct the file; until then the other one counts",
        "services/emptied.yaml": "correct the file; until then what it said last counts",
        "services/new.yaml": "correct the file; until then it counts as no service",
    }
    logged = {log["problem"].partition(":")[0]: log["until_then"] for log in logs if "problem" in log}
    assert logged == {file: mend.removeprefix("correct the file; until then ") for file, mend in told.items()}


def test_a_link_to_nothing_withdraws_nothing(folder, start, watch):
    target = folder.mesh / "orders"
    target.write_text(good("orders"))
    (folder.services / "orders.yaml").symlink_to(target)
    first = watch(start())
    first.until(len, PATIENCE)
    first.end(PATIENCE)
    target.unlink()
    watch(start()).until(len, PATIENCE)


def test_of_two_services_with_one_name_the_first_file_counts_and_both_are_named(folder, start, watch):
    folder.put("b.yaml", good("orders", "10.0.0.6"))
    folder.put("a.yaml", good("orders", "10.0.0.5"))
    agent = start()
    watching = watch(agent)
    assert addresses(watching.until(len, PATIENCE)) == {"orders": ["10.0.0.5"]}
    (error,) = [each for each in agent.registry_check() if each.severity is Severity.ERROR]
    assert error.message == "services/b.yaml: name: 'orders' is in services/a.yaml already, which counts: rename one"
    (folder.services / "a.yaml").unlink()
    watching.until(lambda state: addresses(state) == {"orders": ["10.0.0.6"]}, PATIENCE)


def test_a_folder_that_is_replaced_is_read_anew(folder, start, watch):
    folder.put("orders.yaml", good("orders"))
    agent = start()
    watching = watch(agent)
    watching.until(len, PATIENCE)
    folder.services.rename(folder.mesh / "old")
    folder.services.mkdir()
    folder.put("billing.yaml", good("billing"))
    assert isinstance(watching.failed(PATIENCE), RegistryUnavailable)
    assert set(watching.state) == {"orders"}
    assert set(watch(agent).until(len, PATIENCE)) == {"billing"}


@pytest.mark.parametrize(
    ("scans", "listed", "back"),
    [(0, True, True), (0, True, False), (1, False, True)],
    ids=["replaced when it was listed", "gone when it was listed", "replaced before a later look"],
)
def test_a_folder_that_goes_while_it_is_read_withdraws_nothing(
    folder, start, watch, monkeypatch, scans, listed, back
):
    folder.put("orders.yaml", good("orders"))
    scan, seen = ServiceFiles.scan, []

    def gone_meanwhile(files, touched=None, **how):
        seen.append(touched)
        if len(seen) == scans + 1:
            if listed:
                names = files._list()
                monkeypatch.setattr(files, "_list", lambda: names)
            folder.services.rename(folder.mesh / "old")
            if back:
                folder.services.mkdir()
        scan(files, touched, **how)

    monkeypatch.setattr(ServiceFiles, "scan", gone_meanwhile)
    watching = watch(start())
    assert isinstance(watching.failed(PATIENCE), RegistryUnavailable)
    assert len(seen) == scans + 1
    assert [set(watching.state)] * scans == [{"orders"}] * len(watching.batches)


def test_a_mesh_without_services_folder_is_not_there_and_is_not_made(folder, start, watch):
    shutil.rmtree(folder.services)
    agent = start()
    error = watch(agent).failed(PATIENCE)
    assert isinstance(error, RegistryUnavailable)
    assert str(folder.link.path / "services") in str(error)
    assert "mkdir" in error.mend
    with pytest.raises(RegistryUnavailable):
        agent.registry_imports()
    assert list(folder.mesh.iterdir()) == []
