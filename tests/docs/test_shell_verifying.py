"""The lines of `hamlet verify-adapter`, as the command's page has them, beside a real Consul and a real etcd."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.consul import Consul
from tests.backends.not_run import needed
from tests.backends.pki import make_pki
from tests.docs.blocks import ROOT
from tests.docs.etcd import running_etcd
from tests.docs.typing_blocks import BINARIES, bash, surroundings, typed

pytestmark = pytest.mark.timeout(300)
EXAMPLE = ROOT / "examples" / "hamlet-etcd"
MESH = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: agent.crt, key: agent.key}
"""
LINES = [line for block in typed("docs/cli.md", "hamlet verify-adapter") for line in block.splitlines()]


def lines_for(kind: str) -> list[str]:
    found = [line for line in LINES if line.startswith(f"hamlet verify-adapter {kind} ")]
    assert found, f"the page has no line for {kind}"
    return found


def test_every_line_that_verifies_an_adapter_is_typed_here() -> None:
    assert sorted(LINES) == sorted([*lines_for("consul"), *lines_for("etcd")])


@pytest.mark.parametrize("line", lines_for("consul"))
def test_a_line_for_consul_asks_first_and_does_nothing_without_a_yes(
    line: str, consul: Consul, tmp_path: Path
) -> None:
    way = f"{{kind: consul, address: '{consul.address}'}}"
    (tmp_path / "hamlet.yaml").write_text(f"{MESH}registries: {{main: {way}}}\ncoordinator: {way}\n")
    asked = bash(line, tmp_path, surroundings(BINARIES), answers="n\n")
    assert "Go on?" in asked.said
    assert "coordinator" in asked.said
    assert ("registry main" in asked.said) == ("--role coordinator" not in line)
    assert not re.search(r"^(passed|failed)\b", asked.said, re.MULTILINE)


def test_the_registry_of_consul_is_verified_as_the_page_says(consul: Consul, tmp_path: Path) -> None:
    # The line for the coordinator is not gone on with: its checks wait a minute for Consul's locks, and
    # test_consul_verification runs them with this option.
    (line,) = (each for each in lines_for("consul") if "--role" not in each)
    (tmp_path / "hamlet.yaml").write_text(
        f"{MESH}registries: {{main: {{kind: consul, address: '{consul.address}'}}}}\n"
    )
    done = bash(line, tmp_path, surroundings(BINARIES), answers="y\n")
    assert done.code == 0, done.said
    assert len(re.findall(r"^passed\b", done.said, re.MULTILINE)) > 5, done.said
    assert not re.search(r"^(failed|not run)\b", done.said, re.MULTILINE), done.said
    assert "</html>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_the_adapter_of_the_example_is_verified_as_the_page_says(tls: bool, tmp_path: Path) -> None:
    (line,) = lines_for("etcd")
    (binary,) = needed("a real etcd", "etcd")
    project, target = tmp_path / "hamlet-etcd", tmp_path / "installed"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(project)], check=True, timeout=240)
    # Its certificate has no address: who comes by another way than its name has to be told the name.
    pki = make_pki(tmp_path, addresses=()) if tls else None
    ca = f", ca: '{pki.ca}'" if pki else ""
    with running_etcd(pki) as address:
        registry = f"registries: {{main: {{kind: etcd, address: '{address}', timeout: 3s{ca}}}}}\n"
        (tmp_path / "hamlet.yaml").write_text(MESH + registry)
        environ = surroundings(BINARIES, binary.parent, PYTHONPATH=str(target))
        done = bash(f"{line} 2>progress", tmp_path, environ)
    assert done.said, (tmp_path / "progress").read_text()
    report = json.loads(done.said)
    assert (done.code, report["failed"], report["not_run"]) == (0, 0, 0), done.said
    assert report["passed"] > 30
