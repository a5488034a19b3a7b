"""`hamlet verify-adapter`: the contract on a live registry, as a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: a.crt, key: a.key}
registries:
  local: {kind: file, path: mesh}
"""
TOY = """
import threading
from pathlib import Path
from hamlet_core.api import AdapterOptions, AdapterType, ConfigError, Outcome, Status, hookimpl
from hamlet_core.api.testing import MemoryRegistry
from hamlet_core.api.testing.memory import MemoryAdapter

memory = MemoryRegistry()

class Options(AdapterOptions):
    fault: str = ""
    where: Path = Path("here")

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

def open(options, context):
    assert options.where.is_absolute()
    if options.fault == "does not open":
        raise ConfigError("it does not open")
    adapter = Toy(memory, context)
    adapter.fault = options.fault
    return adapter

@hookimpl
def hamlet_adapters():
    return [AdapterType(kind="toy", role="registry", options=Options, open=open)]

def make(options):
    return memory

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


def checks(report: dict[str, Any], result: str) -> set[str]:
    """The rules with a check that ended so."""
    return {rule["rule"] for rule in report["rules"] for each in rule["checks"] if each["result"] == result}


def test_a_live_folder_is_verified_and_nothing_of_others_is_touched(verify: Verify, tmp_path: Path) -> None:
    service = tmp_path / "mesh" / "services" / "orders.yaml"
    service.write_text("name: orders\nports: [{name: http, port: 80}]\n")
    foreign = tmp_path / "mesh" / "imported" / "east" / "theirs.yaml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("name: theirs\n")
    before = {path: path.read_bytes() for path in (service, foreign)}
    # The environment's own settings of pytest have no say.
    done = verify("file", "--config", "hamlet.yaml", "--yes", "--json", PYTEST_ADDOPTS="--no-such-option")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert checks(report, "failed") == set()
    assert checks(report, "passed") >= {"R2", "R4", "R5", "R6", "R7", "R8", "R9"}
    assert checks(report, "not run") >= {"R1", "R3"}
    reasons = {each["reason"] for rule in report["rules"] for each in rule["checks"] if each["result"] == "not run"}
    assert "needs a backend fixture that makes an outage" in reasons
    assert "the registry is in use: it has services of others" in reasons
    assert report["left_behind"] == []
    files = {path for folder in ("services", "imported") for path in (tmp_path / "mesh" / folder).rglob("*.*")}
    assert {path: path.read_bytes() for path in files} == before
    assert verify("file", "--yes", "--partial").returncode == 0


HANDS = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("folder", {str(ROOT / "plugins/file/tests/conftest.py")!r})
folder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folder)

class Hands(folder.FolderBackend):
    def remove_foreign(self, service):
        self.path(service).unlink()

def make(options):
    (options.path / "services").rmdir()
    return Hands(options.path)
"""


def test_a_live_folder_passes_every_check_when_hands_are_given(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text(HANDS)  # it is found from the current folder
    done = verify("file", "--yes", "--json", "--backend", "hands:make")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["failed"], report["not_run"], report["left_behind"]) == (0, 0, [])
    assert [path for path in (tmp_path / "mesh" / "imported").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "mesh" / "services").iterdir()) == []


def test_what_the_hands_cannot_take_out_again_is_reported(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text(HANDS.replace("def remove_foreign", "def not_there"))
    done = verify("file", "--yes", "--backend", "hands:make")
    assert done.returncode == 1
    assert "left behind: entry of others stock.hamletverify-east.example" in done.stdout
    assert "has no remove_foreign" in done.stdout


def test_the_report_for_a_person_has_each_rule_with_what_it_demands(verify: Verify, tmp_path: Path) -> None:
    done = verify("file", "--yes", "--html", "report.html")
    assert "R8  One change that fails MUST NOT fail the others." in done.stdout
    assert "registry local (file) of hamlet.yaml: hamlet-file" in done.stdout
    assert "could not be run" in done.stdout.splitlines()[-1]
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "One change that fails MUST NOT fail the others." in page
    assert '<td class="not-run">not run</td>' in page


TOYS = "  toy: {kind: toy}\n"


def test_with_a_backend_every_check_is_run(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--backend", "toy_module:make", config=TOYS)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["failed"], report["not_run"]) == (0, 0)
    assert [rule["rule"] for rule in report["rules"]] == [f"R{number}" for number in range(1, 10)]
    assert report["subject"]["distribution"] == "hamlet-toy"


@pytest.mark.parametrize(("fault", "rule"), [("forgets its mark", "R7"), ("marks no peer", "R9")])
def test_a_broken_adapter_is_found_by_the_rule_it_breaks(verify: Verify, fault: str, rule: str) -> None:
    config = f"  toy: {{kind: toy, fault: {fault}}}\n"
    done = verify("toy", "--yes", "--json", "--backend", "toy_module:make", config=config)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert checks(report, "failed") == {rule}
    (broken,) = [each for each in report["rules"] if each["rule"] == rule]
    assert broken["result"] == "failed"
    failure = next(each for each in broken["checks"] if each["result"] == "failed")
    assert failure["reason"]
    assert "test_" + rule.lower() in failure["detail"]


def test_what_an_adapter_does_not_take_out_again_is_reported(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", config="  toy: {kind: toy, fault: takes nothing out}\n")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert "R6" in checks(report, "failed")
    first, *_ = report["left_behind"]
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
    reasons = {each["reason"] for rule in report["rules"] for each in rule["checks"] if each["result"] == "failed"}
    assert reasons == {"TimeoutError: it had not ended after 0.5 s"}
    assert "R9" in checks(report, "failed")
    assert "R4" in checks(report, "passed")


def test_it_asks_before_it_writes_and_takes_silence_for_no(verify: Verify, tmp_path: Path) -> None:
    done = verify("file")
    assert done.returncode == 1
    assert "write imports into, and remove them from, registry 'local' (file) of hamlet.yaml" in done.stderr
    assert "Aborted!" in done.stderr
    assert list((tmp_path / "mesh").iterdir()) == [tmp_path / "mesh" / "services"]


@pytest.mark.parametrize(
    ("arguments", "config", "said"),
    [
        (["consul"], "", "no registries are of kind 'consul'; registries: local (file)"),
        (
            ["envoy"],
            "",
            "'envoy' is the kind of a gateway here, and what is checked on a live backend are registries",
        ),
        (["toy"], "gateway: {kind: toy}\n", "subclass hamlet_core.api.testing.GatewayContract, run pytest"),
        (["toy"], "egress: {kind: toy}\n", "'toy' is the kind of a gateway here"),
        (["file"], "  more: {kind: file, path: more}\n", "2 registries are of kind 'file'"),
        (["file", "--registry", "other"], "", "registry 'other' is not there; registries: local (file)"),
        (["toy", "--registry", "local"], TOYS, "registry 'local' is of kind 'file', not 'toy'"),
        (["toy"], "  toy: {kind: toy, falt: x}\n", "hamlet.yaml:5: registries.toy.falt: unknown key"),
        (["nosuch"], "  more: {kind: nosuch}\n", "registry kind 'nosuch' is not installed"),
        (["file", "--config", "none.yaml"], "", "none.yaml: there is no such file"),
        (["file", "--backend", "nowhere:make"], "", "'nowhere:make' cannot be made: ModuleNotFoundError"),
        (["file", "--backend", "toy_module"], "", "'toy_module' cannot be made"),
        (["file", "--backend", "toy_module:nobody"], "", "is None and no hamlet_core.api.testing.RegistryBackend"),
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
