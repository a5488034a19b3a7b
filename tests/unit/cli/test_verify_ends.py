"""`hamlet verify-adapter`: runs that end early, calls that do not end, and hands that cannot do what is asked."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.toy_runs import ALL, TOYS, Verify, checks, reasons

pytestmark = pytest.mark.timeout(300)


def toy(fault: str) -> str:
    return f"  toy: {{kind: toy, fault: {fault}}}\n"


def test_without_assertions_nothing_is_certified(verify: Verify) -> None:
    done = verify("toy", "--yes", config=toy("marks no peer"), SHIPS="all", PYTHONOPTIMIZE="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the checks are assertions, which Python leaves out where it is told to optimize" in done.stderr
    assert "run it without PYTHONOPTIMIZE" in done.stderr


def test_what_a_failed_check_has_found_is_told(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", config=toy("marks no peer"), SHIPS="all")
    found = reasons(json.loads(done.stdout), "failed")
    assert "AssertionError" not in found
    assert any(each.startswith("assert [None, None] == [datetime.") for each in found), found


def test_an_assertion_of_the_adapter_is_told_by_its_line(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--registry", "toy", config=toy("asserts"))
    assert 'AssertionError: assert "asserts" not in self.fault' in reasons(json.loads(done.stdout), "failed")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("is interrupted", "registry toy (toy): nothing is left behind"),
        (
            "is interrupted and takes nothing out",
            "registry toy (toy): left behind: imports of hamletverify.example in hamletverify: AdapterError",
        ),
        (
            "is interrupted again",
            "registry toy (toy): left behind: what the checks have made, or a part of it: taking it out",
        ),
    ],
    ids=["once", "and what it has made stays", "while it takes out what it has made"],
)
def test_an_interrupted_run_takes_out_what_it_has_made_or_names_it(
    verify: Verify, fault: str, said: str, sent: str
) -> None:
    done = verify("toy", "--yes", "--json", config=toy(fault), SHIPS="all", SIGNAL=sent)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_adapter_that_tries_again_for_ever_ends_and_fails(verify: Verify) -> None:
    done = verify("toy", "--yes", "--json", "--timeout", "0.1", config=toy("tries for ever"))
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert "TimeoutError: it had not ended after 0.1 s" in reasons(report, "failed")
    assert len(report["subjects"][0]["left_behind"]) == 3, "each agent had its time"


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e20", "0", "0.01", "-1"])
def test_a_timeout_that_is_no_time_is_refused(verify: Verify, seconds: str) -> None:
    done = verify("toy", "--yes", "--timeout", seconds, config=TOYS)
    assert done.returncode == 2, done.stderr
    assert "Invalid value for '--timeout'" in done.stderr


def test_what_cannot_be_run_where_the_backend_is_is_said_by_each_check(verify: Verify) -> None:
    arguments = ("toy", "--registry", "toy", "--yes", "--json", "--partial", "--backend", "toy_module:reluctant")
    for cannot, passed in [("open", set()), ("add_local", {"R5", "R6", "R9"})]:
        done = verify(*arguments, config=ALL, NOT_RUN=cannot)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert "needs more rights" in reasons(report, "not run")
        assert checks(report, "passed") >= passed
        assert report["subjects"][0]["left_behind"] == []


def test_what_the_hands_may_not_take_out_again_is_left_behind(verify: Verify) -> None:
    arguments = ("toy", "--registry", "toy", "--yes", "--json", "--partial", "--backend", "toy_module:reluctant")
    done = verify(*arguments, config=ALL, NOT_RUN="remove_foreign")
    assert done.returncode == 1, done.stderr
    left = json.loads(done.stdout)["subjects"][0]["left_behind"]
    assert "entry of others stock.hamletverify-east.example: Skipped: needs more rights" in left


def test_a_backend_that_is_not_there_says_nothing_about_the_adapter(verify: Verify) -> None:
    for shipped in ("", "all"):
        done = verify("toy", "--yes", "--json", config=toy("is down"), SHIPS=shipped)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert done.stderr.splitlines() == [
            "registry toy (toy): its backend is not there, so nothing is verified",
            "hamlet: the memory is out of reach",
        ]
