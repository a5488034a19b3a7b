"""`hamlet verify-adapter`: the contracts on live backends, as a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.toy_runs import ALL, CONFIG, RULES, TOYS, Verify, checks, reasons

pytestmark = pytest.mark.timeout(300)


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
        "G3  It MUST end within a second of `stop`, and leave no thread or socket behind.",
        "C4  It MUST end within a second of `stop`, and leave no thread or socket behind.",
    ):
        assert demand in lines
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<h2>coordinator (toy), with nobody to act on its backend</h2>" in page
    assert "One change that fails MUST NOT fail the others." in page
    assert '<td class="not-run">not run</td>' in page


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


@pytest.mark.parametrize(("fault", "rule"), [("takes out others", "R7"), ("marks no peer", "R9")])
def test_a_broken_adapter_is_found_by_the_rule_it_breaks(verify: Verify, fault: str, rule: str) -> None:
    config = f"  toy: {{kind: toy, fault: {fault}}}\n"
    done = verify("toy", "--yes", "--json", config=config, SHIPS="all")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert checks(report, "failed") == {rule}
    (broken,) = [each for each in report["subjects"][0]["rules"] if each["rule"] == rule]
    assert broken["result"] == "failed"
    failure = next(each for each in broken["checks"] if each["result"] == "failed")
    assert failure["reason"] not in {"", "AssertionError"}
    assert "test_" + rule.lower() in failure["detail"]


def test_what_an_adapter_does_not_take_out_again_is_reported(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", config="  toy: {kind: toy, fault: takes nothing out}\n")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert "R6" in checks(report, "failed")
    first, *_ = report["subjects"][0]["left_behind"]
    assert "imports of hamletverify.example in hamletverify" in first
    assert "still lists" in first


def test_an_adapter_that_does_not_open_is_a_sentence_and_no_check_is_run(verify: Verify) -> None:
    done = verify("toy", "--yes", config="  toy: {kind: toy, fault: does not open}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hamlet: registry toy (toy): it does not open\n"


def test_a_check_that_hangs_fails_and_the_others_go_on(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--timeout", "0.5", config="  toy: {kind: toy, fault: hangs}\n")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert reasons(report, "failed") == {"TimeoutError: it had not ended after 0.5 s"}
    assert "R9" in checks(report, "failed")
    assert "R4" in checks(report, "passed")


def test_it_asks_before_it_writes_and_does_nothing_without_a_yes(verify: Verify, tmp_path: Path) -> None:
    done = verify("toy", config=ALL, SHIPS="all", answers="n\n")
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
    assert done.returncode == 2
    assert done.stderr.endswith("Error: nobody has answered; give --yes where there is nobody to ask\n")
    assert list((tmp_path / "mesh").iterdir()) == [tmp_path / "mesh" / "services"]
