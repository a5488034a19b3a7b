from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from io import StringIO
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner
from rich.console import Console

from hamlet_core.cli import main
from hamlet_core.cli.output import console, emit, styled, table
from hamlet_core.cli.tables import READABLE


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    since: datetime


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def _nothing(_: Console) -> None:
    pytest.fail("nothing is to be rendered")


def test_json_is_one_document_with_the_keys_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    since = datetime(2026, 3, 1, tzinfo=UTC)
    data = {
        "z": Thing("a", since),
        "a": timedelta(seconds=1.5),
        "path": Path("/x"),
        "colour": Colour.RED,
        "set": {"b", "a"},
        "map": MappingProxyType({"k": None}),
    }
    emit(data, _nothing, as_json=True)
    printed = capsys.readouterr().out
    assert list(json.loads(printed).items()) == [
        ("z", {"name": "a", "since": "2026-03-01T00:00:00+00:00"}),
        ("a", 1.5),
        ("path", "/x"),
        ("colour", "red"),
        ("set", ["a", "b"]),
        ("map", {"k": None}),
    ]


def test_what_has_no_form_in_json_is_a_fault() -> None:
    with pytest.raises(TypeError, match="object has no form in JSON"):
        emit({"x": object()}, _nothing, as_json=True)


def _show(rows: list[tuple[object, ...]]) -> Callable[[Console], None]:
    return lambda out: out.print(table("service", "reason", rows=rows))


def test_nothing_is_cut_off_or_coloured_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 5000
    emit([], _show([("orders", styled(long, "red")), (None, 3)]), as_json=False)
    printed = capsys.readouterr().out
    assert long in printed
    assert "\x1b" not in printed
    assert [line.split() for line in printed.splitlines()][2:] == [["orders", long], ["3"]]


def test_a_terminal_gets_colours_and_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    emit([], _show([("orders", styled("y" * 100, "red"))]), as_json=False)
    assert "\x1b[31m" in terminal.getvalue()
    assert terminal.getvalue().count("y") == 100  # folded over lines, not cut


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    emit([], _show([("orders", styled("refused", "red"))]), as_json=False)
    assert "\x1b[31m" not in terminal.getvalue()


def test_data_is_neither_markup_nor_control(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], _show([("[red]orders[/nothing]", ":smile: \x1b[2J\x9b1m")]), as_json=False)
    printed = capsys.readouterr().out
    assert "[red]orders[/nothing]" in printed
    assert ":smile:" in printed
    assert not {"\x1b", "\x9b"} & set(printed)


def test_standard_error_has_a_console_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    console(stderr=True).print("wrong")
    assert capsys.readouterr() == ("", "wrong\n")


def _drawn(
    width: int, *headings: str, rows: list[tuple[object, ...]], notes: int = 1, terminal: bool = False
) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system=None).print(
        table(*headings, rows=rows, notes=notes)
    )
    return [line.rstrip() for line in out.getvalue().splitlines()]


WIDE_ROW = ("west", "orders.west.example", "", "it is refused because its address is one of loopback")


def test_a_table_is_one_where_there_is_room() -> None:
    assert _drawn(120, "peer", "service", "lag", "reason", rows=[WIDE_ROW]) == [
        "peer   service               lag   reason",
        "─" * 87,
        "west   orders.west.example         it is refused because its address is one of loopback",
    ]


def test_a_narrow_terminal_loses_empty_columns_first() -> None:
    drawn = _drawn(82, "peer", "service", "lag", "reason", rows=[WIDE_ROW])
    assert drawn[0] == "peer   service               reason"
    assert len(drawn) == 3


def test_in_a_narrower_one_sentences_stand_below_their_row() -> None:
    assert _drawn(50, "peer", "service", "lag", "reason", rows=[WIDE_ROW, ("east", "stock", "", "")]) == [
        "peer   service",
        "─" * 26,
        "west   orders.west.example",
        "    it is refused because its address is one of",
        "    loopback",
        "east   stock",
    ]


def test_a_heading_that_is_alone_is_left_out_where_sentences_stand_below_their_row() -> None:
    drawn = _drawn(50, "", "what", "how it is", "what to do", rows=[("ok", "identity", "x" * 40, "y" * 40)], notes=2)
    assert drawn == ["ok   identity", f"    {'x' * 40}", f"    {'y' * 40}"]


def test_on_a_wide_terminal_sentences_are_wrapped_and_in_a_pipe_they_are_not() -> None:
    row = ("ok", "registry 'main'", "a sentence of some words " * 6, "and another one " * 6)
    on_terminal = _drawn(250, "", "what", "how it is", "what to do", rows=[row], notes=2, terminal=True)
    assert {len(line) <= READABLE for line in on_terminal} == {True}
    assert "registry 'main'" in " ".join(on_terminal), "what is no sentence is not broken"
    assert len(on_terminal) > 3
    in_pipe = _drawn(250, "", "what", "how it is", "what to do", rows=[row], notes=2)
    assert len(in_pipe) == 3


def test_where_even_that_does_not_fit_cells_are_broken_and_nothing_is_lost() -> None:
    drawn = _drawn(24, "peer", "service", "lag", "reason", rows=[WIDE_ROW])
    assert all(len(line) <= 24 for line in drawn)
    assert "loopback" in "".join(line[16:].strip() for line in drawn)


@pytest.mark.parametrize(("answers", "code", "said"), [("", 2, "give --yes"), ("n\n", 1, "Aborted!")])
def test_a_question_that_nobody_answers_is_no_refusal(
    tmp_path: Path, answers: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["leave", "east"], input=answers)
    assert done.exit_code == code
    assert said in done.stderr
