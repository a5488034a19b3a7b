from __future__ import annotations

from hamlet_core.words import counted


def test_one_is_singular_and_all_else_is_plural() -> None:
    assert [counted(number, "caller") for number in (0, 1, 2)] == ["0 callers", "1 caller", "2 callers"]
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
