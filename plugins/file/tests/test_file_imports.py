"""The folder imported/: names, marks, edits, others' files, the one writer, and what a crash leaves."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hamlet_file import marked
from hamlet_file.atomic import create_file
from hamlet_file.imports import file_name
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hamlet_core.api import RegistryUnavailable, RemoveImport, Severity, Status, WriteImport
from hamlet_core.api.testing import imported_service
from hamlet_core.api.testing.agents import apply, digests_of, imports_of, remove, write

LOST = datetime(2024, 5, 17, 8, 30, tzinfo=UTC)
STOCK = imported_service("stock")


def test_a_person_and_any_yaml_reader_can_read_what_is_written(folder, start):
    write(start(), STOCK)
    text = folder.path(STOCK).read_text()
    assert folder.path(STOCK) == folder.mesh / "imported" / "east" / "stock.east.example.yaml"
    assert text.startswith('# Imported by Hamlet from the mesh "east". Changes made here are overwritten.\n')
    document = YAML(typ="safe", pure=True).load(text)
    mark = document.pop("mark")
    assert {key: mark[key] for key in ("trust_domain", "registry", "peer", "service", "digest")} == {
        "trust_domain": "west.example",
        "registry": "main",
        "peer": "east",
        "service": "stock.east.example",
        "digest": STOCK.digest,
    }
    assert document["local_name"] == "stock.east.example"
    assert document["endpoints"] == [{"address": "203.0.113.7", "port": 8443, "labels": ["http"], "description": ""}]
    assert document["instances"][0]["metadata"] == {"SNI": "stock.east.example", "PORT": "8080"}


@pytest.mark.parametrize(
    ("name", "filed"),
    [
        ("stock.east.example", "stock.east.example"),
        ("a" * 120, "a" * 120),
        ("a" * 121, "a" * 60 + "~"),
        ("Stock", "stock~"),
        ("../../etc/passwd", "_.._etc_passwd~"),
        (".peer", "peer~"),
        ("..", "~"),
        ("", "~"),
        ("a/b", "a_b~"),
        ("a\x00b", "a_b~"),
        ("größe", "gr__e~"),
        ("a~b", "a_b~"),
    ],
)
def test_a_name_becomes_a_safe_file_name(name, filed):
    assert file_name(name).startswith(filed)
    assert len(file_name(name)) == len(filed) + (32 if filed.endswith("~") else 0)


@given(st.text(), st.text())
def test_no_two_names_share_a_file_and_none_leaves_its_folder(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)
    name = file_name(one)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert len(f".{name}.yaml.1234567890.tmp".encode()) <= 255
    assert name == name.lower()


@pytest.mark.parametrize("name", ["../../escape", "A" * 300, "株価", "a b"])
def test_a_service_of_any_name_stays_in_its_folder_and_is_found_again(folder, start, name):
    service = imported_service(name)
    agent = start()
    write(agent, service)
    assert [path.parent for path in folder.mesh.rglob("imported/**/*.yaml")] == [folder.mesh / "imported" / "east"]
    assert digests_of(agent) == {service.key: service.digest}
    remove(agent, service)
    assert not (folder.mesh / "imported" / "east").exists()


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@given(text=TEXT, listed=st.lists(TEXT), mapped=st.dictionaries(TEXT, TEXT), digest=TEXT)
def test_what_is_rendered_is_yaml_and_keeps_its_mark(text, listed, mapped, digest):
    content = {"local_name": text, "tags": listed, "labels": mapped, "endpoints": [{"address": text}]}
    rendered = marked.render("A comment", content, {"registry": "main", "digest": digest})
    document = YAML(typ="safe", pure=True).load(rendered)
    assert {key: document[key] for key in content} == content
    found = marked.read(rendered)
    assert found is not None
    assert found.intact
    assert found.mark == {"registry": "main", "digest": digest}
    assert found.texts["local_name"] == text


@given(TEXT, st.data())
def test_any_edit_is_seen(text, data):
    rendered = marked.render("A comment", {"local_name": text}, {"registry": "main", "digest": "d"})
    place = data.draw(st.integers(0, len(rendered)))
    edited = rendered[:place] + data.draw(st.sampled_from("xyz")) + rendered[place:]
    found = marked.read(edited)
    assert found is None or not found.intact


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("203.0.113.7", "192.0.2.1"),
        lambda text: text.replace('registry: "main"', "registry: main"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "note: mine\n",
        lambda text: text.replace("digest: ", "digest: 'x' #"),
        lambda text: "\n".join(line for line in text.splitlines() if "checksum" not in line),
    ],
    ids=["an address", "the quotes", "the line ends", "a key more", "the digest", "the checksum"],
)
def test_an_edited_file_still_is_ours_and_is_written_again(folder, start, edit):
    agent = start()
    write(agent, STOCK)
    path = folder.path(STOCK)
    before = path.read_bytes()
    path.write_text(edit(path.read_text()), newline="")
    assert digests_of(agent) == {STOCK.key: ""}
    write(agent, STOCK)
    assert path.read_bytes() == before


def test_a_file_that_says_what_it_should_is_not_written_again(folder, start):
    agent = start()
    write(agent, STOCK)
    before = folder.entries()
    write(agent, STOCK)
    assert folder.entries() == before


def test_a_copy_of_an_import_is_not_ours(folder, start):
    agent = start()
    write(agent, STOCK)
    copy = folder.path(STOCK).with_name("copy.yaml")
    copy.write_text(folder.path(STOCK).read_text())
    assert digests_of(agent) == {STOCK.key: STOCK.digest}
    assert [each.subject for each in agent.registry_check() if each.severity is Severity.WARNING] == [
        "imported/east/copy.yaml"
    ]
    remove(agent, STOCK)
    assert copy.exists()


def put_folder(path):
    path.mkdir(parents=True)
    (path / "note").write_text("mine")


def put_link(path):
    path.parent.mkdir(parents=True)
    path.with_name("target").write_text("mine")
    path.symlink_to("target")


def put_text(path):
    path.parent.mkdir(parents=True)
    path.write_text("mark: {}\n")


def put_rubbish(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\x00\n\nmark:\n  checksum: \xff")


def put_parent(path):
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("mine")


@pytest.mark.parametrize("put", [put_folder, put_link, put_text, put_rubbish, put_parent])
def test_whatever_is_in_the_way_is_named_and_left(folder, start, put):
    put(folder.path(STOCK))
    before = folder.entries()
    agent = start()
    (outcome,) = apply(agent, WriteImport(STOCK))
    assert outcome.status is Status.REJECTED
    assert "imported/east" in outcome.reason
    apply(agent, RemoveImport(STOCK.key, STOCK.local_name))
    assert folder.entries() == before
    assert imports_of(agent) == {}


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
def test_a_folder_of_a_peer_that_may_not_be_read_is_an_outage_and_not_empty(bound_by_modes, folder, start, mode):
    agent = start()
    write(agent, STOCK)
    for place in (folder.path(STOCK).parent, folder.mesh / "imported"):
        with folder.closed(place, mode), pytest.raises(RegistryUnavailable, match="Permission denied"):
            agent.registry_imports()
    assert digests_of(agent) == {STOCK.key: STOCK.digest}


@pytest.mark.parametrize("linked", [True, False], ids=["by a link", "without links"])
def test_a_file_is_made_only_where_none_stands(tmp_path, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    create_file(tmp_path / "new", b"ours")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "new", b"other")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"new": b"ours"}


def no_links(path, target):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path), None, str(target))


class Full(io.FileIO):
    """A file on a disk that has no more room for it."""

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_whole_is_not_made(tmp_path, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode) if "x" in mode else opened(path, mode))
    with pytest.raises(OSError, match="No space"):
        create_file(tmp_path / "new", b"ours")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_nobodys_work(folder, start):
    """What a power failure leaves of a file whose content had not reached the disk."""
    folder.path(STOCK).parent.mkdir(parents=True)
    folder.path(STOCK).touch()
    agent = start()
    write(agent, STOCK)
    assert digests_of(agent) == {STOCK.key: STOCK.digest}


def test_the_folder_of_a_peer_goes_with_its_last_import_and_its_mark(folder, start):
    agent = start()
    write(agent, STOCK)
    agent.registry_mark_peer(peer="east", lost_since=LOST)
    text = (folder.mesh / "imported" / "east" / ".peer.yaml").read_text()
    assert 'lost_since: "2024-05-17T08:30:00+00:00"' in text
    assert 'The mesh "east" is lost' in text
    remove(agent, STOCK)
    assert list((folder.mesh / "imported").iterdir()) == []


def test_the_folder_of_a_peer_stays_for_what_others_put_there(folder, start):
    agent = start()
    write(agent, STOCK)
    folder.path(STOCK).with_name("note.txt").write_text("mine")
    remove(agent, STOCK)
    assert [path.name for path in folder.path(STOCK).parent.iterdir()] == ["note.txt"]


def test_a_peer_mark_of_another_agent_is_not_replaced(folder, start):
    agent = start(registry="second")
    write(agent, STOCK)
    agent.registry_mark_peer(peer="east", lost_since=LOST)
    agent.registry_close()
    with pytest.raises(Exception, match=r"imported/east/\.peer\.yaml is not ours: .*registry 'second'"):
        start().registry_mark_peer(peer="east", lost_since=None)


def test_a_second_agent_only_publishes_and_says_who_writes(folder, start, watch):
    folder.put("orders.yaml", "name: orders\nport: 80\n")
    writer, second = start(), start(registry="second")
    write(writer, STOCK)
    (outcome,) = apply(second, WriteImport(imported_service("mail")))
    assert outcome.status is Status.RETRY
    assert f"another agent (registry main, pid {os.getpid()}) writes" in outcome.reason
    with pytest.raises(RegistryUnavailable, match="only publishes"):
        second.registry_mark_peer(peer="east", lost_since=LOST)
    assert any("registry main" in each.message for each in second.registry_check())
    assert set(watch(second).until(len, 20)) == {"orders"}
    assert not any("another agent" in each.message for each in writer.registry_check())
    writer.registry_close()
    write(second, imported_service("mail"))


def test_a_writer_whose_lock_file_was_removed_takes_the_new_one(folder, start):
    writer, second = start(), start(registry="second")
    write(writer, STOCK)
    (folder.mesh / ".hamlet" / "writer.lock").unlink()
    write(second, imported_service("mail"))
    (outcome,) = apply(writer, WriteImport(imported_service("third")))
    assert outcome.status is Status.RETRY
    assert "registry second" in outcome.reason


def test_a_write_that_the_disk_refuses_is_tried_again_and_fails_no_other(folder, start, monkeypatch):
    def full(path, content):
        if "stock" in path.name:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    agent = start()
    monkeypatch.setattr("hamlet_file.imports.create_file", full)
    stock, mail = apply(agent, WriteImport(STOCK), WriteImport(imported_service("mail")))
    assert (stock.status, mail.status) == (Status.RETRY, Status.APPLIED)
    assert "No space left on device" in stock.reason


WRITER = """
import json, sys
from pathlib import Path
from hamlet_core.api import AdapterContext, WriteImport
from hamlet_core.api.testing import imported_service
from hamlet_file.registry import FileRegistry

context = AdapterContext(name="main", mesh="west", domain="west.example", trust_domain="west.example",
                         directory=Path("/"))
adapter = FileRegistry(Path(sys.argv[1]), context)
for number in range(100_000):
    adapter.registry_apply([WriteImport(imported_service(f"service-{number}"))])
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_files_and_its_place(folder, start):
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(folder.mesh)], stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(50):
            written = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        written = max([written, *map(int, writer.stdout.read().split())])
    left = folder.mesh / "imported" / "east" / f".half.yaml.{writer.pid}.tmp"
    left.write_text("name: ha")
    agent = start()
    write(agent, STOCK)
    found = digests_of(agent)
    expected = [imported_service(f"service-{number}") for number in range(written + 1)]
    assert {service.key: service.digest for service in [*expected, STOCK]}.items() <= found.items()
    assert "" not in found.values()
    assert not left.exists()
    assert json.dumps(sorted(path.name for path in folder.path(STOCK).parent.glob(".*"))) == "[]"
