"""What an operator types into a running service, typed: an upgrade and the way back, a restore, the end of a peer."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hamlet_core import __version__
from tests.docs.service import Service, service
from tests.docs.typing_blocks import bash, typed
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

pytestmark = pytest.mark.timeout(600)
PAGE = "docs/operations.md"
UPGRADE, BACKUP, REMOVE = "Upgrade", "Back up and restore", "Remove a peer for good"
NEWER = f"{__version__}.post1"


@pytest.fixture
def west(tmp_path: Path) -> Mesh:
    """Who types."""
    return Mesh(root=tmp_path, name="west")


@pytest.fixture
def east(tmp_path: Path, west: Mesh) -> Iterator[AgentProcess]:
    """The peer of west, which runs; they publish a service each."""
    east = Mesh(root=tmp_path, name="east")
    east.configure({"west": west.peer()})
    west.configure({"east": east.peer()})
    west.write_service("orders")
    east.write_service("stock")
    agent = AgentProcess(east).start()
    yield agent
    agent.end()


def have_hamlet(there: Service) -> None:
    """Have the commands of this environment where the page installs them."""
    binaries = there.stage / "opt" / "hamlet"
    binaries.mkdir()
    (binaries / "bin").symlink_to(Path(sys.executable).parent)


def linked(there: Service, east: AgentProcess) -> None:
    """Start west's agent, and wait until both meshes have the other's service."""
    there.types("systemctl start hamlet")
    wait_until(lambda: east.mesh.imported_names("west") and there.west.imported_names("east"), what="both link")


# --- an upgrade --------------------------------------------------------------------------------------------


def newer(wheel: Path, folder: Path) -> None:
    """The same distribution as a later version, in `folder`."""
    renamed = wheel.name.replace(f"-{__version__}-", f"-{NEWER}-")
    assert renamed != wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(folder / renamed, "w") as new:
        for each in old.namelist():
            content = old.read(each).replace(f"Version: {__version__}".encode(), f"Version: {NEWER}".encode())
            content = content.replace(f'__version__ = "{__version__}"'.encode(), f'__version__ = "{NEWER}"'.encode())
            place = each.replace(f"-{__version__}.dist-info/", f"-{NEWER}.dist-info/")
            if each.endswith("/RECORD"):
                content = content.replace(f"-{__version__}.dist-info/".encode(), f"-{NEWER}.dist-info/".encode())
            new.writestr(place, content)


@pytest.mark.xdist_group("installing")
def test_an_upgrade_and_the_way_back_lose_nothing(
    machine: dict[str, str], wheels: Path, west: Mesh, east: AgentProcess, tmp_path: Path
) -> None:
    install, restart, look, back = typed(PAGE, UPGRADE)
    later = tmp_path / "later"
    later.mkdir()
    for distribution in ("core", "consul"):
        (wheel,) = wheels.glob(f"hamlet_{distribution}-*.whl")
        newer(wheel, later)
    both = {"PIP_FIND_LINKS": f"{wheels} {later}"}
    with service(tmp_path / "stage", west, machine) as there:
        there.types(
            "python3 -m venv /opt/hamlet && /opt/hamlet/bin/pip install hamlet-core hamlet-consul hamlet-file"
        )
        linked(there, east)
        standing = east.mesh.imported("west"), west.imported("east")
        version = "/opt/hamlet/bin/hamlet --version; /opt/hamlet/bin/hamlet plugins"

        said = there.types(install, **both)
        assert "no problems" in said
        there.types(restart)
        assert "orders.west.example" in there.types_until_well(look)
        now = there.types(version)
        assert NEWER in now
        assert re.search(rf"consul .*{re.escape(NEWER)}", now)
        assert (east.mesh.imported("west"), west.imported("east")) == standing

        there.types(back, **both)
        there.types_until_well(look)
        assert NEWER not in there.types(version)
        assert (east.mesh.imported("west"), west.imported("east")) == standing


# --- a restore ---------------------------------------------------------------------------------------------


def test_what_is_kept_is_enough_to_go_on_elsewhere(west: Mesh, east: AgentProcess, tmp_path: Path) -> None:
    keep, restore = typed(PAGE, BACKUP)
    registry = tmp_path / "registry"
    shutil.move(west.folder / "mesh", registry)  # it is no part of what is kept
    west.configure({"east": east.mesh.peer()}, registries={"west": {"kind": "file", "path": str(registry)}})
    with service(tmp_path / "stage", west) as there:
        have_hamlet(there)
        routes = there.stage / "var" / "envoy" / "routes.json"
        routes.write_text("{}")
        there.types("systemctl start hamlet")
        (imported,) = wait_until(lambda: list(registry.glob("imported/east/stock*")), what="east's service comes")
        wait_until(lambda: east.mesh.imported_names("west"), what="and west's goes")

        there.types(keep)
        there.types("systemctl stop hamlet")
        (archive,) = (there.stage / "root").iterdir()
        assert archive.stat().st_mode & 0o077 == 0, "others can read the secrets in it"
        shutil.rmtree(west.folder)
        routes.unlink()
        imported.unlink()

        there.types(restore)
        look = typed(PAGE, UPGRADE)[2]
        assert "orders.west.example" in there.types_until_well(look)
        wait_until(imported.exists, what="an import that the registry lost comes again")
        assert routes.exists()
        assert east.mesh.imported_names("west") == {"orders.west.example"}


# --- the end of a peer -------------------------------------------------------------------------------------


def status(there: Service) -> dict[str, Any]:
    """What west's agent says of itself; it may not be well."""
    done = bash(there.here("/opt/hamlet/bin/hamlet status --json"), there.stage, there.environ)
    return dict(json.loads(done.said))


def exports(there: Service) -> tuple[int, int]:
    """What west offers to east, and what of that east has not acknowledged."""
    (peer,) = status(there)["peers"]
    return peer["exports"]["offered"], peer["exports"]["lag"]


def states(east: AgentProcess) -> dict[str, str]:
    """The states of what east has of west."""
    return {each["service"]: each["state"] for each in east.ask("services", peer="west")["imported"]}


def test_a_peer_that_is_removed_in_steps_has_nothing_of_ours_left(
    west: Mesh, east: AgentProcess, tmp_path: Path
) -> None:
    plan, wait, out = typed(PAGE, REMOVE)
    peer = {"east": east.mesh.peer()}
    with service(tmp_path / "stage", west) as there:
        have_hamlet(there)
        linked(there, east)
        west.configure(peer, publish=[])
        assert re.search(r"withdraw +orders\.west\.example +east", there.types(plan))
        wait_until(lambda: exports(there) == (0, 0), what="east acknowledges")
        assert "nothing is published" in there.types(wait)
        assert not east.mesh.imported_names("west")

        west.configure({}, publish=[{"to": ["east"], "direct": True}])
        refused = bash(there.here("/opt/hamlet/bin/hamlet config check"), there.stage, there.environ)
        assert refused.code == 2, "a rule still names it"
        assert "'east' is not among the peers" in refused.said
        west.configure({}, publish=[])
        assert re.search(r"delete +stock\.east\.example +east", there.types(out))
        wait_until(lambda: not west.imported_names("east"), what="what came from it goes")
        assert "no longer has you as its peer" in east.state("west", "imports", "rejected")["last_error"]
        assert states(east) == {}


def test_a_peer_that_is_left_or_taken_out_at_once_keeps_what_it_has_of_ours(
    west: Mesh, east: AgentProcess, tmp_path: Path
) -> None:
    with service(tmp_path / "stage", west) as there:
        have_hamlet(there)
        linked(there, east)
        there.types("/opt/hamlet/bin/hamlet leave east --yes")
        assert "has left the federation with you" in east.state("west", "imports", "rejected")["last_error"]
        assert states(east) == {"orders.west.example": "retained"}
        listed = there.types("/opt/hamlet/bin/hamlet services --published --peer east")
        assert "orders.west.example" in listed, "the rules still say so"

        there.types("systemctl reload hamlet")
        wait_until(lambda: status(there)["peers"], what="west has its peer again")
        east.send(signal.SIGHUP)  # who was rejected dials again after a reload
        wait_until(lambda: states(east) == {"orders.west.example": "applied"}, what="they are linked again")
        west.configure({}, publish=[])
        there.types("systemctl reload hamlet")
        assert "no longer has you as its peer" in east.state("west", "imports", "rejected")["last_error"]
        assert states(east) == {"orders.west.example": "retained"}
