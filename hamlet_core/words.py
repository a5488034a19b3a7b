"""Small grammar for what is said to people."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 caller`, `2 callers`; `plural` where an s does not make it."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
