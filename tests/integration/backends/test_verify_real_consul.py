"""`hamlet verify-adapter` on a real Consul that is in use: what it checks holds, and nothing of it stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.backends.consul import Consul


def test_a_consul_in_use_is_verified_and_left_as_it_was(consul: Consul, tmp_path: Path) -> None:
    orders = {"Node": "workloads", "Address": "10.0.0.1", "Service": {"Service": "orders", "Port": 8080}}
    consul.do("PUT", "/v1/catalog/register", orders)
    before = (consul.do("GET", "/v1/catalog/services"), consul.do("GET", "/v1/catalog/node-services/workloads"))
    (tmp_path / "hamlet.yaml").write_text(
        "mesh: {name: west, domain: west.example, trust_domain: west.example}\n"
        "identity: {certificate: a.crt, key: a.key}\n"
        f"registries:\n  main: {{kind: consul, address: '{consul.address}'}}\n"
    )
    command = [
        sys.executable,
        "-m",
        "hamlet_core",
        "verify-adapter",
        "consul",
        "--yes",
        "--json",
        "--partial",
        "--no-backend",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    (subject,) = report["subjects"]
    assert (subject["failed"], subject["left_behind"]) == (0, [])
    passed = {rule["rule"] for rule in subject["rules"] for each in rule["checks"] if each["result"] == "passed"}
    assert passed >= {"R2", "R4", "R5", "R6", "R7", "R8", "R9"}
    after = (consul.do("GET", "/v1/catalog/services"), consul.do("GET", "/v1/catalog/node-services/workloads"))
    assert after == before
    assert not [node["Node"] for node in consul.do("GET", "/v1/catalog/nodes") if "hamletverify" in node["Node"]]
