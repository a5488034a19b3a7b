"""docs/tutorial-consul-istio.md typed from its first line to its last, each command where its title says.

What is not as on the page: the addresses of Consul's and of Kubernetes' API; no controller makes the EndpointSlice of
`stock`, and no pod or sidecar runs. So curl of a workload is told by its configuration what a sidecar, or a resolver
that asks Consul, would do: the place to which the ServiceEntry, or the answer of Consul's DNS, leads for that name.
Where the machine has no `dig`, a few lines ask the same of Consul's DNS over UDP and print what it says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.mixed import tutorial
from tests.mixed.federation import PATIENCE, East, West
from tests.mixed.resolving import by_dns, by_service_entry
from tests.mixed.sites import http_service
from tests.support.netns import Namespace
from tests.support.processes import wait_until

pytestmark = [pytest.mark.xdist_group("mixed"), pytest.mark.timeout(300)]
DIG = """\
#!/bin/sh
PYTHONPATH='{root}' exec '{python}' -m tests.mixed.dig "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who types: at which place, in which namespace, with which variables."""

    place: str
    namespace: Namespace
    folder: Path
    environ: dict[str, str]
    places: dict[str, str]
    """What the page shows, and what it is here."""

    def types(self, heading: str) -> list[str]:
        """Type everything that the page has below a heading for this place; what each step printed."""
        with self.namespace.entered():
            return [
                tutorial.typed(step, self.folder, self.environ, places=self.places)
                for step in tutorial.steps(heading, self.place)
            ]


def called_by(folder: Path, name: str) -> dict[str, str]:
    """The variables of a workload with a curl that is as quiet as at a terminal, and perhaps a `dig`."""
    home, programs = folder / name, folder / "programs"
    home.mkdir()
    programs.mkdir(exist_ok=True)
    (home / ".curlrc").write_text("silent\nshow-error\n")
    (programs / "dig").write_text(DIG.format(root=ROOT, python=sys.executable))
    (programs / "dig").chmod(0o755)
    return {"CURL_HOME": str(home), "PATH": f"{tutorial.surroundings({})['PATH']}:{programs}"}


def led(environ: dict[str, str], rule: str) -> None:
    """Tell curl where a name leads."""
    with (Path(environ["CURL_HOME"]) / ".curlrc").open("a") as file:
        file.write(f"{rule}\n")


@pytest.fixture
def readers(linked: tuple[West, East], tmp_path: Path) -> dict[str, Reader]:
    """Everybody who types, by the place that the page's titles name."""
    found: dict[str, Reader] = {}
    places = {"http://127.0.0.1:8500": linked[0].consul.address}
    for each in linked:
        folder, name = each.agent.mesh.root, each.site.name
        for place, namespace, environ in (
            (name, each.site.host, each.environ),
            (f"a workload of {name}", each.site.workload, called_by(tmp_path, name)),
        ):
            found[place] = Reader(place=place, namespace=namespace, folder=folder, environ=environ, places=places)
    return found


def test_the_page_works_as_it_stands(linked: tuple[West, East], readers: dict[str, Reader]) -> None:
    west, east = linked
    well, out, back, away = (
        "Is all well?",
        "5. From Consul to Kubernetes",
        "6. From Kubernetes to Consul",
        "7. Withdraw",
    )
    host, caller, sidecar = readers["west"], readers["a workload of west"], readers["a workload of east"]
    host.types(well)
    with http_service(west.site, "orders", 8080), http_service(east.site, "stock", 8080) as stock:
        host.types(out)
        readers["east"].types(out)
        address, port = by_service_entry(east.entry("orders-west-example"), "orders.west.example")
        led(sidecar.environ, f"connect-to = orders.west.example:8080:{address}:{port}")
        assert sidecar.types(out) == [
            "orders, asked for orders.west.example:8080",
            "orders, asked for orders.west.example",
        ]

        readers["east"].types(back)
        east.serve("stock", stock, "http")
        name = "stock-shop-east-example"
        host.types(back)
        address, port = wait_until(lambda: by_dns(west.site, name), what=f"{name} in Consul's DNS", within=PATIENCE)
        led(caller.environ, f"resolve = {name}.service.consul:{port}:{address}")
        assert caller.types(back)[-1] == "stock, asked for stock.shop.east.example"

        host.types(away)
        sidecar.types(away)
    assert set(tutorial.STEPS) <= tutorial.TYPED, "nothing of the page is left untyped"
