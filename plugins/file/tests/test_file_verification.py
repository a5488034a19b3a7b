"""What the plugin ships for `hamlet verify-adapter`: it hurts one adapter alone, and leaves nothing of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hamlet_file.coordinator import FileCoordinatorOptions
from hamlet_file.plugin import FileOptions
from hamlet_file.registry import FileRegistry
from hamlet_file.verification import FolderBackend, coordinator, registry

from hamlet_core.api import AdapterContext, RegistryUnavailable
from hamlet_core.api.testing import imported_service, local_service
from hamlet_core.api.testing.agents import Agents, digests_of, write


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """A folder in use."""
    mesh = tmp_path / "mesh"
    (mesh / "services").mkdir(parents=True)
    (mesh / "services" / "orders.yaml").write_text("name: orders\nport: 80\n")
    return mesh


def standing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_file_that_goes_while_the_folder_is_read_is_no_entry(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FolderBackend(mesh)
    half = mesh / "imported" / "east" / ".stock.yaml.1.tmp"
    half.parent.mkdir(parents=True)
    read = Path.read_bytes

    def renamed_meanwhile(path: Path) -> bytes:
        half.unlink(missing_ok=True)
        return read(path)

    half.write_bytes(b"half")
    monkeypatch.setattr(Path, "read_bytes", renamed_meanwhile)
    assert list(folder.entries()) == ["services/orders.yaml"]
    half.write_bytes(b"half")
    (mesh / "services" / "orders.yaml").unlink()  # so that the one that goes is the one that is read
    assert list(folder.entries()) == []
    folder.close()


def test_an_outage_is_that_of_the_adapters_opened_through_it(mesh: Path, tmp_path: Path) -> None:
    folder = registry(FileOptions(path=mesh))
    context = AdapterContext(
        name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
    )
    adapter, another = folder.open(context), FileRegistry(mesh, context)
    with folder.outage():
        with pytest.raises(RegistryUnavailable):
            adapter.registry_imports()
        assert another.registry_imports() == []
    assert adapter.registry_imports() == []
    folder.close()


def test_where_rights_can_be_taken_they_are_those_of_the_adapters_opened_through_it(
    mesh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FolderBackend(mesh)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert folder.deny() is None, "no folder keeps root out"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    denied = folder.deny()
    assert denied is not None
    with denied:
        assert folder.link.path.parent.stat().st_mode & 0o777 == 0
        assert (mesh / "services").stat().st_mode & 0o700 == 0o700
    assert folder.link.path.parent.stat().st_mode & 0o777 == 0o700
    folder.close()


def test_nothing_is_left_of_what_others_did(mesh: Path, tmp_path: Path) -> None:
    before = standing(mesh)
    folder = FolderBackend(mesh)
    agents = Agents(folder, tmp_path)
    agent, stock = agents.start(), imported_service("stock", "east")
    folder.add_local(local_service("billing", "10.0.0.5"))
    agents.watch(agent).until(lambda state: "billing" in state, 20)
    assert folder.add_foreign(stock) == "imported/east/stock.east.example.yaml"
    agents.stop_all()
    folder.remove_local("billing")
    folder.remove_foreign(stock)
    folder.close()
    assert standing(mesh) - before <= {".hamlet", ".hamlet/last-good", ".hamlet/last-good/orders.yaml"}
    assert not folder.link.path.parent.exists()


def test_what_somebody_else_has_put_there_meanwhile_stays(mesh: Path) -> None:
    folder = FolderBackend(mesh)
    stock, mail = imported_service("stock", "east"), imported_service("mail", "east")
    folder.add_foreign(stock)
    folder.add_foreign(mail)
    folder.remove_foreign(stock)
    folder.close()
    assert (mesh / "imported" / "east" / "mail.east.example.yaml").exists()


def test_an_edit_leaves_the_mark(mesh: Path, tmp_path: Path) -> None:
    folder = FolderBackend(mesh)
    agents = Agents(folder, tmp_path)
    agent, stock = agents.start(), imported_service("stock", "east")
    write(agent, stock)
    folder.edit_import(stock)
    assert digests_of(agent) == {stock.key: ""}
    agents.stop_all()
    folder.close()


def test_the_lock_of_a_real_leader_is_not_touched(tmp_path: Path) -> None:
    real = tmp_path / "west.example_west.leader"
    real.write_text("ours\n")
    locks = coordinator(FileCoordinatorOptions(path=tmp_path))
    context = AdapterContext(
        name="coordinator", mesh="hamletverify", domain="v.example", trust_domain="v.example", directory=tmp_path
    )
    adapter = locks.open(context)
    assert {path.name for path in tmp_path.iterdir()} == {real.name, "v.example_hamletverify.leader"}
    adapter.coordinator_close()
    locks.close()
    assert [path.name for path in tmp_path.iterdir()] == [real.name]
    assert real.read_text() == "ours\n"


def test_an_agent_loads_the_plugin_without_it() -> None:
    code = (
        "import sys; from hamlet_file import plugin; found = plugin.hamlet_adapters();"
        "assert all(each.backend.startswith('hamlet_file.verification:') for each in found), found;"
        "assert not {'pytest', 'hamlet_file.verification', 'hamlet_core.api.testing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_killed_run_has_left_is_taken_out_and_nothing_else(mesh: Path, tmp_path: Path) -> None:
    theirs, stock = imported_service("mail", "hamletverify-east"), imported_service("stock", "hamletverify-east")
    killed = FolderBackend(mesh)
    killed.path(theirs).parent.mkdir(parents=True)
    killed.path(theirs).write_text("name: somebody's\n")
    before = standing(mesh)
    killed.add_local(local_service("hamletverify-billing", "10.0.0.5"))
    killed.add_foreign(stock)
    (mesh / "services" / ".hamletverify-orders.json.others").write_text("half of")
    kept = mesh / ".hamlet" / "last-good" / "hamletverify-orders.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    folder = FolderBackend(mesh)
    folder.sweep()
    assert standing(mesh) - before == {".hamlet", ".hamlet/last-good"}
    assert killed.path(theirs).exists()
    for each in (killed, folder):
        each.link.close()


def test_what_is_gone_already_is_taken_out(mesh: Path) -> None:
    folder = FolderBackend(mesh)
    folder.remove_local("billing")
    folder.remove_foreign(imported_service("stock", "east"))
    folder.close()


def test_what_is_in_the_way_of_a_lead_since_a_killed_run_goes(tmp_path: Path) -> None:
    context = AdapterContext(
        name="coordinator", mesh="hamletverify", domain="v.example", trust_domain="v.example", directory=tmp_path
    )
    coordinator(FileCoordinatorOptions(path=tmp_path)).add_foreign(context)
    locks = coordinator(FileCoordinatorOptions(path=tmp_path))
    locks.open(context).coordinator_close()
    assert "somebody" not in locks.file(context).read_text()
    locks.add_foreign(context)
    locks.open(context).coordinator_close()
    assert "somebody" in locks.file(context).read_text(), "that of this run stays"
    locks.remove_foreign(context)
    locks.remove_foreign(context)
    locks.close()
    assert list(tmp_path.iterdir()) == []
