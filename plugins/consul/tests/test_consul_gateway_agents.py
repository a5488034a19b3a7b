"""An agent with the gateway: what another mesh publishes is linked, stays through a restart, and goes with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hamlet_core.cli import main
from tests.backends.consul import StartConsul
from tests.support.meshes import Mesh, eventually, running, stays

README = Path(__file__).parent.parent / "README.md"


def links(consul: Any) -> dict[str, Any]:
    reply = consul.call("GET", "/v1/config/terminating-gateway/terminating-gateway")
    return {link["Name"]: link for link in reply.body["Services"]} if reply.status == 200 else {}


async def test_imports_are_linked_as_long_as_they_are_published(tmp_path: Path, start_consul: StartConsul) -> None:
    consul = start_consul()
    west, east = Mesh(root=tmp_path, name="west"), Mesh(root=tmp_path, name="east")
    west.configure(
        {"east": east.peer()},
        registries={"west": {"kind": "consul", "address": consul.address, "wait": "5s"}},
        egress={"kind": "consul", "address": consul.address, "names": "checked"},
    )
    east.configure(
        {"west": west.peer()},
        gateway={"kind": "static", "endpoints": ["192.0.2.7:8443"], "sans": ["*.east.example"]},
        publish=[{"to": "all"}],
    )
    east.write_service("stock")
    east.write_service("mail")
    both = {"stock-east-example", "mail-east-example"}

    def entries() -> set[str]:
        return {name for name in consul.do("GET", "/v1/catalog/services") if name.endswith("-east-example")}

    async with running(east):
        async with running(west):
            await eventually(lambda: entries() == set(links(consul)) == both, what="both are linked")
            (entry,) = consul.do("GET", "/v1/catalog/service/stock-east-example")
            assert (entry["ServiceAddress"], entry["ServicePort"]) == ("192.0.2.7", 8443)
            assert entry["ServiceMeta"]["hamlet-gateway"] == "terminating-gateway"
            east.remove_service("mail")
            await eventually(lambda: entries() == set(links(consul)) == {"stock-east-example"}, what="one went")
        assert entries() == set(links(consul)) == {"stock-east-example"}, "nothing goes with the agent"
        async with running(west) as again:
            await again.state("east", "imports", "live")
            await stays(lambda: entries() == set(links(consul)) == {"stock-east-example"}, seconds=1)
            east.remove_service("stock")
            await eventually(lambda: not entries() and not links(consul), what="the other went")


async def test_what_consul_would_not_check_is_no_entry_and_status_says_why(
    tmp_path: Path, start_consul: StartConsul
) -> None:
    consul = start_consul()
    west, east = Mesh(root=tmp_path, name="west"), Mesh(root=tmp_path, name="east")
    west.configure(
        {"east": east.peer()},
        registries={"west": {"kind": "consul", "address": consul.address, "wait": "5s"}},
        egress={"kind": "consul", "address": consul.address, "names": "checked"},
    )
    east.configure(
        {"west": west.peer()},
        gateway={"kind": "static", "endpoints": ["192.0.2.7:8443"], "sans": ["spiffe://east.example/ingress"]},
        publish=[{"to": "all"}],
    )
    east.write_service("stock")
    async with running(east), running(west) as agent:
        await eventually(lambda: "no name but the SNI" in str(agent.reporter.status()), what="the reason is told")
        assert links(consul) == {}
        assert "stock-east-example" not in consul.do("GET", "/v1/catalog/services")


def test_the_example_of_the_readme_is_a_configuration(tmp_path: Path) -> None:
    text = README.read_text().split("## Calls out by a terminating gateway")[1]
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    mesh = Mesh(root=tmp_path, name="west")
    mesh.configure({})
    with mesh.config_path.open("a") as file:
        file.write(block[1])
    ran = CliRunner().invoke(main, ["-c", str(mesh.config_path), "config", "check"])
    assert ran.exit_code == 0, ran.output
