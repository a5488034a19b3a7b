"""What `hamlet check` finds where no agent runs, of meshes with gateways."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hamlet_core.api import AdapterOptions, AdapterType, ConfigError, hookimpl
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from hamlet_core.cli import main
from hamlet_core.plugins import loader
from hamlet_core.plugins.discovery import Found


class Options(AdapterOptions):
    port: int = 0


class Plugin:
    """Provides one kind of gateway in memory, or fails to open it."""

    def __init__(self, kind):
        self.kind = kind
        self.gateway = MemoryGateway()
        self.fails = ""

    @hookimpl
    def hamlet_adapters(self):
        return [AdapterType(kind=self.kind, role="gateway", options=Options, api_version=1, open=self._open)]

    def _open(self, options, context):
        if self.fails:
            raise ConfigError(self.fails, mend="install it")
        return self.gateway.adapter_type().open(options, context)

    @property
    def found(self):
        point = SimpleNamespace(load=lambda: self)
        return Found(name=self.kind, distribution=f"hamlet-{self.kind}", version="1", entry_point=point)


@pytest.fixture
def plugins(monkeypatch):
    """The kinds of gateway `one` and `two`, beside what is installed."""
    made = {kind: Plugin(kind) for kind in ("one", "two")}
    discover = loader.discover
    added = [each.found for each in made.values()]
    monkeypatch.setattr(loader, "discover", lambda: itertools.chain(discover(), added))
    return made


def check(mesh, *, expect):
    done = CliRunner().invoke(main, ["-c", str(mesh.config_path), "check", "--json"], prog_name="hamlet")
    assert done.exit_code == expect, done.output
    return done


def found(done):
    return {each["subject"]: (each["severity"], each["message"]) for each in json.loads(done.stdout)["findings"]}


def test_each_gateway_is_asked_how_it_is_and_given_nothing(west, plugins):
    west.configure({}, gateway={"kind": "one"}, egress={"kind": "two"})
    assert found(check(west, expect=0))["memory"] == ("ok", "in reach")
    with plugins["two"].gateway.outage():
        findings = json.loads(check(west, expect=1).stdout)["findings"]
    said = [each["message"] for each in findings if each["subject"] == "memory"]
    assert said == ["in reach", "out of reach"]
    for plugin in plugins.values():
        assert plugin.gateway.calls == ["gateway_close", "gateway_close"]


def test_a_gateway_that_cannot_be_opened_is_an_error_beside_the_other_findings(west, plugins):
    plugins["one"].fails = "there is no such program"
    west.configure({}, gateway={"kind": "one"})
    findings = found(check(west, expect=1))
    assert findings["gateway (one)"][0] == "error"
    assert "there is no such program" in findings["gateway (one)"][1]
    assert findings["identity"][0] == "ok"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gateway": {"kind": "one", "prt": 1}}, "gateway.prt: unknown key"),
        ({"egress": {"kind": "two", "port": "many"}}, "egress.port"),
        ({"gateway": {"kind": "oen"}}, "gateway kind 'oen' is not installed"),
        ({"registries": {"west": {"kind": "file", "pth": "mesh"}}}, "registries.west.pth: unknown key"),
    ],
    ids=["gateway", "egress", "kind", "registry"],
)
def test_options_that_an_adapter_does_not_take_end_it_as_a_wrong_configuration(west, plugins, changes, said):
    west.configure({}, **changes)
    assert said in check(west, expect=2).stderr
    assert plugins["one"].gateway.calls == []


def test_without_a_gateway_certificates_are_looked_at_alone(west):
    west.configure({})
    assert set(found(check(west, expect=0))) == {"identity", "agent"}


def test_what_the_parts_log_is_no_part_of_the_document(west, east):
    west.configure({"east": east.peer(bundle="none.pem")})
    done = check(west, expect=1)
    first, missing = json.loads(done.stdout)["findings"][:2]
    assert first["message"].endswith("hamlet.sock: no registry and no peer was asked")
    assert (missing["subject"], missing["severity"]) == ("peer east: bundle", "error")
    assert str(west.folder / "none.pem") in missing["message"]
    assert missing["mend"] == "ask the operator of east for its bundle.pem"
    assert done.stderr == "", "a command says what there is to say, and logs faults alone"


def test_a_fault_of_a_gateway_is_logged_with_its_traceback_and_no_value_on_the_way(west, plugins, monkeypatch):
    def gateway_check(self):
        secret = "not for " + "the log"
        raise KeyError(len(secret))

    monkeypatch.setattr(plugins["one"].gateway.adapter_type().open(None, None).__class__, "gateway_check",
                        hookimpl(gateway_check))  # fmt: skip
    west.configure({}, gateway={"kind": "one"})
    done = CliRunner().invoke(main, ["-c", str(west.config_path), "check", "--json"])
    assert any("KeyError" in each["message"] for each in json.loads(done.stdout)["findings"])
    assert "adapter failed" in done.stderr
    assert "in gateway_check" in done.stderr
    assert "not for the log" not in done.stderr
