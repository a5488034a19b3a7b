"""`hamlet verify-adapter` on a real Consul that is in use: what it checks holds, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path

from tests.backends.consul import Consul
from tests.support.verifying import verified


def test_a_consul_in_use_is_verified_and_left_as_it_was(consul: Consul, tmp_path: Path) -> None:
    orders = {"Node": "workloads", "Address": "10.0.0.1", "Service": {"Service": "orders", "Port": 8080}}
    consul.do("PUT", "/v1/catalog/register", orders)
    before = (consul.do("GET", "/v1/catalog/services"), consul.do("GET", "/v1/catalog/node-services/workloads"))
    adapters = {"registries": {"main": {"kind": "consul", "address": consul.address}}}
    code, report = verified(tmp_path, "consul", adapters, "--partial", "--no-backend", within=110)
    assert code == 0, report
    (subject,) = report["subjects"]
    assert (subject["failed"], subject["left_behind"]) == (0, [])
    passed = {rule["rule"] for rule in subject["rules"] for each in rule["checks"] if each["result"] == "passed"}
    assert passed >= {"R2", "R4", "R5", "R6", "R7", "R8", "R9"}
    after = (consul.do("GET", "/v1/catalog/services"), consul.do("GET", "/v1/catalog/node-services/workloads"))
    assert after == before
    assert not [node["Node"] for node in consul.do("GET", "/v1/catalog/nodes") if "hamletverify" in node["Node"]]
