"""`hamlet verify-adapter`: how it ends, and where its report goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from hamlet_core.api import HamletError
from hamlet_core.api.testing.live import Check, Result, Verification
from hamlet_core.cli import adapters
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.subjects import Place
from hamlet_core.cli.verification import Run, Section, ending
from tests.unit.cli.toy_runs import TOYS, Verify


def section(*results: Result, left: tuple[str, ...] = ()) -> Section:
    done = tuple(Check(rule="R1", sentence=f"check {number}", result=each) for number, each in enumerate(results))
    place = Place(role="registry", key="west", kind="toy")
    return Section(place=place, backend="", done=Verification(checks=done, left_behind=left))


GOOD = section(Result.PASSED, Result.DOES_NOT_APPLY)


@pytest.mark.parametrize(
    ("bad", "whole", "partial"),
    [
        (GOOD, Exit.OK, Exit.OK),
        (section(Result.PASSED, Result.NOT_RUN), Exit.FINDINGS, Exit.OK),
        (section(Result.PASSED, Result.FAILED), Exit.FINDINGS, Exit.FINDINGS),
        (section(Result.PASSED, left=("an import",)), Exit.FINDINGS, Exit.FINDINGS),
    ],
)
def test_a_run_ends_well_where_every_check_did(bad: Section, whole: Exit, partial: Exit) -> None:
    for sections in ([bad], [GOOD, bad], [bad, GOOD]):
        assert ending(sections, partial=False) is whole
        assert ending(sections, partial=True) is partial


@pytest.mark.parametrize("place", ["", "none/report.html"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_verified(
    verify: Verify, tmp_path: Path, place: str
) -> None:
    done = verify("toy", "--yes", "--html", str(tmp_path / place), config="gateway: {kind: toy}\n", TOLD="told")
    assert done.returncode == 1
    assert f"{tmp_path / place}: the report cannot be written" in done.stderr
    assert not (tmp_path / "told").exists(), "nothing was opened"


def test_a_place_for_the_report_stays_as_it_is_where_nothing_is_verified(verify: Verify, tmp_path: Path) -> None:
    assert "give --yes" in verify("toy", "--html", "new.html", config=TOYS).stderr
    assert not (tmp_path / "new.html").exists()
    (tmp_path / "old.html").write_text("an earlier one")
    assert "give --yes" in verify("toy", "--html", "old.html").stderr
    assert (tmp_path / "old.html").read_text() == "an earlier one"


LOUD = """
from toy_module import Clerk
print("imported")

def make(options):
    print("made")
    return Loud(options)

class Loud(Clerk):
    def close(self):
        print("closed")
"""


def test_what_a_backend_prints_is_no_part_of_the_report(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    done = verify("toy", "--backend", "loud:make", "--yes", "--json", config=TOYS)
    assert json.loads(done.stdout)["kind"] == "toy"
    for printed in ("imported", "made", "closed"):
        assert printed in done.stderr


RUN = Run(kind="toy", config="h.yaml", distribution="d", version="1", hamlet="1", at=datetime.now(UTC))


def test_a_page_that_cannot_be_written_after_all_does_not_take_the_report_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HamletError, match="the report cannot be written: No such file or directory"):
        adapters._tell(RUN, [GOOD], tmp_path / "gone" / "report.html", as_json=True)
    assert json.loads(capsys.readouterr().out)["passed"] == 1


def test_a_reader_that_goes_away_does_not_take_the_page_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", away)
    with pytest.raises(BrokenPipeError):
        adapters._tell(RUN, [GOOD], tmp_path / "report.html", as_json=True)
    assert "hamlet verify-adapter toy" in (tmp_path / "report.html").read_text()
