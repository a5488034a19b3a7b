"""`hamlet verify-adapter`: gateways and coordinators, and the ways of a gateway."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from tests.unit.cli.toy_runs import ALL, RULES, Verify, checks, reasons

pytestmark = pytest.mark.timeout(300)

INGRESS = {"G1", "G2", "G3", "G4", "G5", "G6", "G9", "G10"}


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
    assert checks(report, "not run", "coordinator") == {"C1", "C2", "C3", "C4", "C5", "C6"}
    assert checks(report, "failed", "coordinator") == set()


@pytest.mark.parametrize(
    ("config", "rules"),
    [
        ("gateway: {kind: toy, ways: out}\n", {"gateway": {"G3", "G6", "G7", "G8", "G9", "G10"}}),
        ("egress: {kind: toy, ways: out}\n", {"egress": {"G3", "G6", "G7", "G8", "G9", "G10"}}),
        ("egress: {kind: toy}\n", {"egress": RULES["gateway"]}),
        (
            "gateway: {kind: toy, ways: in}\negress: {kind: toy, ways: out}\n",
            {
                "gateway": INGRESS,
                "egress": {"G3", "G6", "G7", "G8", "G9", "G10"},
            },
        ),
        (
            "gateway: {kind: toy}\negress: {kind: toy, ways: out}\n",
            {"gateway": RULES["gateway"], "egress": {"G3", "G6", "G7", "G8", "G9", "G10"}},
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


def test_a_gateway_that_refuses_imports_is_held_to_its_ingress_and_that_is_said(
    verify: Verify, tmp_path: Path
) -> None:
    config = "gateway: {kind: toy, fault: refuses imports}\n"
    page = tmp_path / "report.html"
    done = verify("toy", "--yes", "--json", "--html", str(page), config=config, SHIPS="all")
    assert done.returncode == 0, done.stdout + done.stderr
    (gateway,) = json.loads(done.stdout)["subjects"]
    assert {each["rule"] for each in gateway["rules"]} == INGRESS
    (remark,) = gateway["remarks"]
    assert remark.startswith("it refuses imports (")
    assert remark in html.unescape(page.read_text())
    assert remark in verify("toy", "--yes", config=config, SHIPS="all").stdout.replace("\n", " ")


def test_an_adapter_without_a_hook_is_a_sentence_before_any_check(verify: Verify) -> None:
    done = verify("toy", "--yes", config="coordinator: {kind: toy, fault: unmarked}\n", SHIPS="all")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "coordinator (toy): the adapter does not implement coordinator_lead" in done.stderr
    assert "mark coordinator_lead with @hookimpl of hamlet_core.api" in done.stderr
    assert "registry" not in done.stderr


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
