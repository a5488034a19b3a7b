"""`hamlet verify-adapter`: the contracts on live backends, as a report."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hamlet_core.agent.admin import AdminServer

CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: a.crt, key: a.key}
registries:
  local: {kind: file, path: mesh}
"""
TOY = """
import os, threading
from pathlib import Path
from hamlet_core.api import AdapterOptions, AdapterType, ConfigError, Outcome, Refused, Status, hookimpl
from hamlet_core.api.testing import (
    LIVE_NAMES, MemoryCoordinator, MemoryGateway, MemoryGatewayBackend, MemoryRegistry
)
from hamlet_core.api.testing.memory import MemoryAdapter
from hamlet_core.api.testing.memory_gateway import MemoryGatewayAdapter

memory = MemoryRegistry()
leads = MemoryCoordinator(ttl=1.0)
doors = {}

class Options(AdapterOptions):
    fault: str = ""
    where: Path = Path("here")
    ways: str = "in out"

class Toy(MemoryAdapter):
    fault = ""
    @hookimpl
    def registry_apply(self, changes):
        if self.fault == "forgets its mark":
            for change in changes:
                self.backend.by_name.pop(getattr(change, "local_name", ""), None)
        return super().registry_apply(changes)
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        if self.fault == "marks no peer":
            return True
        if self.fault == "hangs" and lost_since is not None:
            threading.Event().wait()
        return super().registry_mark_peer(peer, lost_since)
    def _drop(self, key):
        if self.fault != "takes nothing out":
            super()._drop(key)

class Door(MemoryGatewayAdapter):
    fault = ""
    @hookimpl
    def gateway_publish(self, routes):
        if self.fault == "keeps its routes" and not routes:
            raise RuntimeError("it cannot be emptied")
        return super().gateway_publish(routes)
    @hookimpl
    def gateway_import(self, routes, keep):
        answers = super().gateway_import(routes, keep)
        if self.fault == "checks DNS names":
            spiffe = {each.key for each in routes if any("://" in san for san in each.service.sans)}
            return answers | {key: Refused("no DNS name") for key in spiffe}
        return {key: Refused("no") for key in answers} if self.fault == "refuses imports" else answers

def open_registry(options, context):
    assert options.where.is_absolute()
    if options.fault == "does not open":
        raise ConfigError("it does not open")
    adapter = Toy(memory, context)
    adapter.fault = options.fault
    return adapter

def door(options):
    ways = options.ways.split()
    return doors.setdefault(options.ways, MemoryGateway(ingress="in" in ways, egress="out" in ways))

def open_gateway(options, context):
    with open(os.environ.get("TOLD", os.devnull), "a") as told:
        print(context.name, context.directory.name, file=told)
    adapter = Door(door(options))
    adapter.fault = options.fault
    return adapter

class Clerk(MemoryRegistry):
    def __init__(self, options):
        self.__dict__ = memory.__dict__
        self.options = options
    def open(self, context):
        return open_registry(self.options, context)

class Doorman(MemoryGatewayBackend):
    def __init__(self, options):
        super().__init__(door(options))
        self.options = options
    def open(self, context):
        return open_gateway(self.options, context)
    def sans(self, peer, workload="ingress"):
        return (f"{workload}.{peer}.example",) if "DNS" in self.options.fault else super().sans(peer, workload)
    def close(self):
        left = [*self.gateway.published, *self.gateway.imported]
        assert not left, left

class Chair(MemoryCoordinator):
    def __init__(self):
        self.__dict__ = leads.__dict__
    def close(self):
        assert not [claim for claim in self.claims.values() if claim.holder is None]
        if os.environ.get("STUCK"):
            raise OSError("it does not close")

SHIPS = os.environ.get("SHIPS", "")

@hookimpl
def hamlet_adapters():
    def ships(name):
        return {"": "", "all": f"toy_module:{name}"}.get(SHIPS, SHIPS)
    return [
        AdapterType(kind="toy", role="registry", options=Options, open=open_registry, backend=ships("make")),
        AdapterType(kind="toy", role="gateway", options=Options, open=open_gateway, backend=ships("doorman")),
        AdapterType(
            kind="toy", role="coordinator", options=AdapterOptions,
            open=lambda options, context: leads.open(context), backend=ships("chair"),
        ),
    ]

def make(options):
    return Clerk(options)

def doorman(options):
    return Doorman(options)

def chair(options):
    return Chair()

def careless(options):
    class Careless(Clerk):
        def remove_foreign(self, service):
            raise OSError("it stays")
    return Careless(options)

def nobody(options):
    return None
"""

Verify = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Run the command in a folder with a file registry, and with the adapter `toy` installed."""
    (tmp_path / "mesh" / "services").mkdir(parents=True)
    (tmp_path / "hamlet.yaml").write_text(CONFIG)
    packages = tmp_path / "packages"
    (packages / "hamlet_toy-1.dist-info").mkdir(parents=True)
    (packages / "toy_module.py").write_text(TOY)
    (packages / "hamlet_toy-1.dist-info" / "METADATA").write_text("Name: hamlet-toy\nVersion: 1\n")
    (packages / "hamlet_toy-1.dist-info" / "entry_points.txt").write_text("[hamlet]\ntoy = toy_module\n")

    def run(*arguments: str, config: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        if config is not None:
            (tmp_path / "hamlet.yaml").write_text(CONFIG + config)
        return subprocess.run(
            [sys.executable, "-m", "hamlet_core", "verify-adapter", *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(packages), **environ}, input="",
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip

    return run


TOYS = "  toy: {kind: toy}\n"
ALL = TOYS + "gateway: {kind: toy}\ncoordinator: {kind: toy}\n"
RULES = {
    "registry": {f"R{number}" for number in range(1, 10)},
    "gateway": {f"G{number}" for number in range(1, 9)},
    "coordinator": {f"C{number}" for number in range(1, 6)},
}


def checks(report: dict[str, Any], result: str, role: str = "registry") -> set[str]:
    """The rules with a check that ended so."""
    return {
        rule["rule"]
        for subject in report["subjects"]
        if subject["role"] == role
        for rule in subject["rules"]
        for each in rule["checks"]
        if each["result"] == result
    }


def reasons(report: dict[str, Any], result: str) -> set[str]:
    """Why checks ended so."""
    return {
        each["reason"]
        for subject in report["subjects"]
        for rule in subject["rules"]
        for each in rule["checks"]
        if each["result"] == result
    }


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".hamlet" not in path.parts}


FILES = CONFIG.partition("registries:")[0] + (
    "registries:\n  local: {kind: file, path: mesh}\ncoordinator: {kind: file, path: locks}\n"
)


@pytest.fixture
def in_use(tmp_path: Path) -> Path:
    """The folder has services of its own, imports of an agent, and the lock of a leader."""
    (tmp_path / "mesh" / "services" / "orders.yaml").write_text("name: orders\nports: [{name: http, port: 80}]\n")
    (tmp_path / "mesh" / "imported" / "east").mkdir(parents=True)
    (tmp_path / "mesh" / "imported" / "east" / "theirs.yaml").write_text("name: theirs\n")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "west.example_west.leader").write_text("ours\n")
    (tmp_path / "files.yaml").write_text(FILES)
    return tmp_path


def test_a_folder_in_use_keeps_the_contract_and_nothing_of_others_is_touched(verify: Verify, in_use: Path) -> None:
    before = files(in_use / "mesh"), files(in_use / "locks")
    # The environment's own settings of pytest have no say.
    done = verify("file", "--config", "files.yaml", "--yes", "--json", PYTEST_ADDOPTS="--no-such-option")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["failed"], report["not_run"], report["does_not_apply"]) == (0, 0, 1)
    assert reasons(report, "does not apply") == {"the registry is in use: it has services of others"}
    assert checks(report, "passed") == RULES["registry"]
    assert checks(report, "passed", "coordinator") == RULES["coordinator"]
    assert [each["left_behind"] for each in report["subjects"]] == [[], []]
    assert [each["backend"] for each in report["subjects"]] == [
        "hamlet_file.verification:registry",
        "hamlet_file.verification:coordinator",
    ]
    assert (files(in_use / "mesh"), files(in_use / "locks")) == before
    assert not [path for path in in_use.rglob("*") if "hamletverify" in path.name]


def test_without_a_backend_the_adapter_does_what_it_can_alone(verify: Verify, in_use: Path) -> None:
    before = files(in_use / "mesh")
    done = verify("file", "--config", "files.yaml", "--yes", "--json", "--no-backend", "--registry", "local")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    (subject,) = report["subjects"]
    assert (subject["role"], subject["name"], subject["backend"]) == ("registry", "local", None)
    assert checks(report, "failed") == set()
    assert checks(report, "passed") >= {"R2", "R4", "R5", "R6", "R7", "R8", "R9"}
    assert checks(report, "not run") >= {"R1", "R3"}
    assert "needs a backend that makes an outage" in reasons(report, "not run")
    assert files(in_use / "mesh") == before
    arguments = ("file", "--config", "files.yaml", "--yes", "--no-backend", "--registry", "local", "--partial")
    assert verify(*arguments).returncode == 0


def test_every_role_of_a_kind_is_verified_with_what_the_plugin_ships(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--html", "report.html", config=ALL, SHIPS="all")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["kind"], report["distribution"], report["config"]) == ("toy", "hamlet-toy", "hamlet.yaml")
    assert (report["failed"], report["not_run"], report["does_not_apply"]) == (0, 0, 0)
    assert {each["role"]: each["name"] for each in report["subjects"]} == {
        "registry": "toy",
        "gateway": "gateway",
        "coordinator": "coordinator",
    }
    for subject in report["subjects"]:
        assert {each["rule"] for each in subject["rules"]} == RULES[subject["role"]]
        assert subject["passed"] == sum(len(each["checks"]) for each in subject["rules"])
        assert subject["left_behind"] == []
    assert report["passed"] == sum(each["passed"] for each in report["subjects"])


def test_the_report_for_a_person_has_a_section_for_each_subject(verify: Verify, tmp_path: Path) -> None:
    done = verify("toy", "--yes", "--html", "report.html", config=ALL)
    assert done.returncode == 1
    assert "toy as hamlet.yaml configures it: hamlet-toy 1, hamlet-core" in done.stdout
    lines = done.stdout.splitlines()
    for subject in ("registry toy (toy)", "gateway (toy)", "coordinator (toy)"):
        assert f"{subject}, with nobody to act on its backend" in lines
        assert any(line.startswith(f"{subject}: ") and "could not be run" in line for line in lines[-3:])
    for demand in (
        "R8  One change that fails MUST NOT fail the others.",
        "G3  It MUST end within a second of `stop`.",
        "C4  It MUST end within a second of `stop`, and leave no thread or socket behind.",
    ):
        assert demand in lines
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<h2>coordinator (toy), with nobody to act on its backend</h2>" in page
    assert "One change that fails MUST NOT fail the others." in page
    assert '<td class="not-run">not run</td>' in page


def test_what_a_gateway_and_a_coordinator_can_do_alone_is_run(verify: Verify) -> None:
    arguments = ("toy", "--yes", "--json", "--partial")
    report = json.loads(verify(*arguments, "--role", "gateway", config=ALL).stdout)
    assert (checks(report, "passed", "gateway"), checks(report, "failed", "gateway")) == ({"G3", "G7", "G8"}, set())
    assert reasons(report, "not run") == {
        f"needs a backend that {does}"
        for does in ("connects to the ingress", "connects to what is imported", "makes an outage")
    }
    report = json.loads(verify(*arguments, "--role", "coordinator", config=ALL).stdout)
    assert checks(report, "passed", "coordinator") == {"C1", "C3", "C4"}
    assert checks(report, "not run", "coordinator") == {"C2", "C3", "C5"}
    assert checks(report, "failed", "coordinator") == set()


@pytest.mark.parametrize(
    ("config", "rules"),
    [
        ("gateway: {kind: toy, ways: out}\n", {"gateway": {"G3", "G6", "G7", "G8", "G9"}}),
        ("egress: {kind: toy, ways: out}\n", {"egress": {"G3", "G6", "G7", "G8", "G9"}}),
        ("egress: {kind: toy}\n", {"egress": RULES["gateway"]}),
        (
            "gateway: {kind: toy, ways: in}\negress: {kind: toy, ways: out}\n",
            {"gateway": {"G1", "G2", "G3", "G4", "G5", "G6", "G9"}, "egress": {"G3", "G6", "G7", "G8", "G9"}},
        ),
        (
            "gateway: {kind: toy}\negress: {kind: toy, ways: out}\n",
            {"gateway": RULES["gateway"], "egress": {"G3", "G6", "G7", "G8", "G9"}},
        ),
    ],
)
def test_a_gateway_is_held_to_the_ways_that_it_leads(
    verify: Verify, tmp_path: Path, config: str, rules: dict[str, set[str]]
) -> None:
    told = tmp_path / "told"
    done = verify("toy", "--role", "gateway", "--yes", "--json", config=config, SHIPS="all", TOLD=str(told))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    found = {each["name"]: {rule["rule"] for rule in each["rules"]} for each in report["subjects"]}
    assert found == rules
    assert set(told.read_text().splitlines()) == {f"{key} {tmp_path.name}" for key in rules}


def test_a_gateway_is_asked_in_the_names_that_it_checks(verify: Verify) -> None:
    config = (
        "gateway: {kind: toy, fault: checks DNS names}\negress: {kind: toy, fault: checks DNS names, ways: out}\n"
    )
    done = verify("toy", "--yes", "--json", config=config, SHIPS="all")
    assert done.returncode == 0, done.stdout + done.stderr
    gateway, _ = json.loads(done.stdout)["subjects"]
    assert {each["rule"] for each in gateway["rules"]} == RULES["gateway"], "its way out is checked too"


def test_a_gateway_that_is_wanted_for_both_ways_and_refuses_imports_fails(verify: Verify) -> None:
    config = "gateway: {kind: toy, fault: refuses imports}\n"
    done = verify("toy", "--yes", "--json", config=config, SHIPS="all")
    assert done.returncode == 1
    assert checks(json.loads(done.stdout), "failed", "gateway") >= {"G7", "G8"}


def test_a_gateway_that_goes_on_leading_is_told(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", config="gateway: {kind: toy, fault: keeps its routes}\n", SHIPS="all")
    assert done.returncode == 1
    (subject,) = json.loads(done.stdout)["subjects"]
    routes, released = subject["left_behind"]
    assert routes == "routes of the gateway: RuntimeError: it cannot be emptied"
    assert released.startswith("what the backend holds: AssertionError")


def test_a_backend_that_does_not_close_is_told(verify: Verify) -> None:
    arguments = ("toy", "--yes", "--json", "--role", "coordinator")
    done = verify(*arguments, config=ALL, SHIPS="all", STUCK="yes")
    assert done.returncode == 1
    (subject,) = json.loads(done.stdout)["subjects"]
    assert (subject["failed"], subject["left_behind"]) == (0, ["what the backend holds: OSError: it does not close"])


def test_a_gateway_that_an_agent_leads_is_left_alone(verify: Verify, tmp_path: Path) -> None:
    async def ping(request: dict[str, Any]) -> dict[str, Any]:
        return request

    async def served() -> subprocess.CompletedProcess[str]:
        server = AdminServer(tmp_path / "admin.sock", {"ping": ping})
        await server.start()
        try:
            run = functools.partial(verify, "toy", "--yes", config=config, SHIPS="all")
            return await asyncio.to_thread(run)
        finally:
            await server.stop()

    config = ALL + "admin: {socket: admin.sock}\n"
    done = asyncio.run(served())
    assert done.returncode == 1
    assert (
        "an agent runs with hamlet.yaml: the checks would take from the gateway (toy) all that it leads"
        in done.stderr
    )
    assert "leave the gateway out with --role" in done.stderr
    assert done.stdout == ""


def test_what_acts_on_the_backend_may_be_given(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text("from toy_module import make")  # it is found from the current folder
    done = verify("toy", "--registry", "toy", "--yes", "--json", "--backend", "hands:make", config=ALL, SHIPS="no:t")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["failed"], report["not_run"], report["subjects"][0]["backend"]) == (0, 0, "hands:make")


def test_registries_of_one_kind_are_verified_one_after_the_other(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--partial", config=TOYS + "  other: {kind: toy}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [each["name"] for each in json.loads(done.stdout)["subjects"]] == ["toy", "other"]


def test_what_the_backend_cannot_take_out_again_is_reported(verify: Verify) -> None:
    done = verify("toy", "--yes", "--backend", "toy_module:careless", config=TOYS)
    assert done.returncode == 1
    expected = "left behind in registry toy (toy): entry of others stock.hamletverify-east.example: OSError: it stays"
    assert expected in done.stdout


@pytest.mark.parametrize(("fault", "rule"), [("forgets its mark", "R7"), ("marks no peer", "R9")])
def test_a_broken_adapter_is_found_by_the_rule_it_breaks(verify: Verify, fault: str, rule: str) -> None:
    config = f"  toy: {{kind: toy, fault: {fault}}}\n"
    done = verify("toy", "--yes", "--json", config=config, SHIPS="all")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert checks(report, "failed") == {rule}
    (broken,) = [each for each in report["subjects"][0]["rules"] if each["rule"] == rule]
    assert broken["result"] == "failed"
    failure = next(each for each in broken["checks"] if each["result"] == "failed")
    assert failure["reason"]
    assert "test_" + rule.lower() in failure["detail"]


def test_what_an_adapter_does_not_take_out_again_is_reported(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", config="  toy: {kind: toy, fault: takes nothing out}\n")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert "R6" in checks(report, "failed")
    first, *_ = report["subjects"][0]["left_behind"]
    assert "imports of hamletverify.example in hamletverify" in first
    assert "still lists" in first


def test_an_adapter_that_does_not_open_fails_every_check(verify: Verify) -> None:
    done = verify("toy", "--yes", config="  toy: {kind: toy, fault: does not open}\n")
    assert done.returncode == 1
    assert "it does not open" in done.stdout


def test_a_check_that_hangs_fails_and_the_others_go_on(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--timeout", "0.5", config="  toy: {kind: toy, fault: hangs}\n")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert reasons(report, "failed") == {"TimeoutError: it had not ended after 0.5 s"}
    assert "R9" in checks(report, "failed")
    assert "R4" in checks(report, "passed")


def test_it_asks_before_it_writes_and_takes_silence_for_no(verify: Verify, tmp_path: Path) -> None:
    done = verify("toy", config=ALL, SHIPS="all")
    assert done.returncode == 1
    for said in (
        "write imports into, and remove them from, registry toy (toy)",
        "register services in, make entries of others in and make outages for registry toy (toy), by toy_module:make",
        "take everything that it leads, until the agent starts again, from gateway (toy)",
        "take and give up the lead of a mesh of their own in coordinator (toy)",
        "Aborted!",
    ):
        assert said in done.stderr
    done = verify("file")
    assert "Aborted!" in done.stderr
    assert list((tmp_path / "mesh").iterdir()) == [tmp_path / "mesh" / "services"]


@pytest.mark.parametrize(
    ("arguments", "config", "said"),
    [
        (["consul"], "", "nothing is of kind 'consul'; there are: registry local (file)"),
        (["toy"], TOYS.replace("kind: toy", "kind: file, path: m"), "registry local (file), registry toy (file)"),
        (["toy", "--role", "gateway"], TOYS, "no gateway is of kind 'toy'; there are: registry local"),
        (["toy", "--role", "nonsense"], TOYS, "is not one of 'registry', 'gateway', 'coordinator'"),
        (["file", "--registry", "other"], "", "registry 'other' is not there; there are: registry local (file)"),
        (["toy", "--registry", "local"], TOYS, "registry 'local' is of kind 'file', not 'toy'"),
        (["toy", "--registry", "toy", "--role", "gateway"], ALL, "and --role gateway leaves them out"),
        (["toy"], "  toy: {kind: toy, falt: x}\n", "hamlet.yaml:5: registries.toy.falt: unknown key"),
        (["toy"], "gateway: {kind: toy, falt: x}\n", "hamlet.yaml:5: gateway.falt: unknown key"),
        (["toy"], "coordinator: {kind: toy, falt: x}\n", "hamlet.yaml:5: coordinator.falt: unknown key"),
        (["nosuch"], "  more: {kind: nosuch}\n", "registry kind 'nosuch' is not installed"),
        (["file", "--config", "none.yaml"], "", "none.yaml: there is no such file"),
        (["file", "--backend", "nowhere:make"], "", "'nowhere:make' cannot be made: ModuleNotFoundError"),
        (["file", "--backend", "toy_module"], "", "'toy_module' cannot be made"),
        (["file", "--backend", "toy_module:nobody"], "", "is None and no hamlet_core.api.testing.RegistryBackend"),
        (
            ["toy", "--role", "gateway", "--backend", "toy_module:make"],
            ALL,
            "no hamlet_core.api.testing.GatewayBackend",
        ),
        (
            ["toy", "--role", "coordinator", "--backend", "toy_module:make"],
            ALL,
            "and no hamlet_core.api.testing.Coord",
        ),
        (
            ["toy", "--backend", "toy_module:make"],
            ALL,
            "--backend is for one role, and registry toy (toy) and gateway",
        ),
        (["toy", "--backend", "toy_module:make", "--no-backend"], TOYS, "and --no-backend wants none"),
        (
            ["file"],
            "peers:\n  hamletverify-east: {bundle: b.pem, trust_domain: east.example}\n",
            "'hamletverify-east' is the name of a peer here",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_run(
    verify: Verify, tmp_path: Path, arguments: list[str], config: str, said: str
) -> None:
    done = verify(*arguments, "--yes", config=config)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert list((tmp_path / "mesh").iterdir()) == [tmp_path / "mesh" / "services"]


@pytest.mark.parametrize(
    ("ships", "said"),
    [
        (
            "nowhere:make",
            "'nowhere:make' that the plugin 'toy' ships for its registry cannot be made: ModuleNotFound",
        ),
        ("toy_module:absent", "cannot be made: AttributeError"),
        ("toy_module", "cannot be made: AttributeError"),
        ("toy_module:nobody", "is None and no hamlet_core.api.testing.RegistryBackend"),
    ],
)
def test_a_plugin_that_ships_a_broken_backend_is_named_and_can_be_verified_without(
    verify: Verify, ships: str, said: str
) -> None:
    done = verify("toy", "--yes", config=TOYS, SHIPS=ships)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "do without: --no-backend" in done.stderr
    done = verify("toy", "--yes", "--json", "--partial", "--no-backend", SHIPS=ships)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == 0


@pytest.mark.parametrize(
    ("pytest_module", "said"),
    [
        ("raise ModuleNotFoundError('pytest')", "the checks need pytest, which is not installed"),
        (
            "version_tuple = (7, 4, 0); __version__ = '7.4.0'",
            "the checks need pytest 8.4 or newer; 7.4.0 is installed",
        ),
    ],
)
def test_without_pytest_it_says_what_to_install(
    verify: Verify, tmp_path: Path, pytest_module: str, said: str
) -> None:
    (tmp_path / "packages" / "pytest.py").write_text(pytest_module)
    done = verify("file", "--yes")
    assert done.returncode == 1
    assert said in done.stderr
    assert "hamlet-core[testing]" in done.stderr
