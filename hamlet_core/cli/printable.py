"""Text from elsewhere, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without control characters: what a peer sent must not steer our terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
