"""A registry that can be read and does not take what changes: status and check say so, with its reason."""

from __future__ import annotations

from datetime import timedelta

from click.testing import CliRunner

from hamlet_core.agent import status
from hamlet_core.agent.findings import state_findings
from hamlet_core.api import Outcome, Status
from hamlet_core.cli import main, operate
from tests.support.meshes import Mesh, eventually, running


async def denied(changes):
    return [Outcome(key=each.key, status=Status.RETRY, reason="permission denied") for each in changes]


async def test_a_lost_right_to_write_is_seen_while_the_registry_is_live(tmp_path, monkeypatch):
    west, east = Mesh(root=tmp_path, name="west"), Mesh(root=tmp_path, name="east")
    for name in ("a", "b", "c"):
        west.write_service(name)
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer()})

    async with running(west), running(east) as agent:
        monkeypatch.setattr(operate, "ask", lambda *_: agent.reporter.status() | {"reload_refused": ""})

        def asked():
            return CliRunner().invoke(main, ["-c", str(east.config_path), "status"], env={"COLUMNS": "200"})

        await agent.state("west", "imports", "live")
        await agent.state("west", "exports", "live")
        await eventually(lambda: agent.peer("west")["imports"]["standing"] == 3)
        assert asked().exit_code == 0, asked().output

        monkeypatch.setattr(agent.agent.importer.lanes[0].port, "apply", denied)
        west.write_service("d")
        west.remove_service("c")
        await eventually(lambda: agent.peer("west")["imports"]["pending"] == 2)
        imports = agent.peer("west")["imports"]
        assert (imports["standing"], imports["retried"]) == (3, {}), "that may happen now and then"
        assert len(east.imported("west")) == 3

        monkeypatch.setattr(status, "RETRIED_FOR", timedelta())
        await eventually(lambda: len(agent.peer("west")["imports"]["retried"]) == 2)
        assert agent.reporter.status()["registries"][0]["importing"]["state"] == "live"
        told = asked()
        assert told.exit_code == 1
        assert "west: changes not made for " in told.output
        assert "c.west.example, d.west.example: the registry east could not take it yet: permission denied" in (
            told.output
        )
        (finding,) = state_findings(agent.reporter.status())
        assert "2: c.west.example: the registry east could not take it yet: permission denied" in finding.message
