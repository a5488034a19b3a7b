"""How states and times are shown to people."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from hamlet_core.cli.output import styled

STYLES = {
    "live": "green", "ok": "green", "syncing": "cyan", "connecting": "yellow", "stale": "yellow", "held": "yellow",
    "silent": "red", "waiting": "yellow", "rejected": "red", "warning": "yellow", "error": "red", "publish": "green",
    "change": "cyan", "withdraw": "yellow", "write": "green", "delete": "yellow", "retained": "yellow",
}  # fmt: skip
"""The colour of each state."""

SECTIONS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def ago(moment: str | None) -> str:
    """How long ago a time was, in its two largest units: `3h 12m`."""
    if moment is None:
        return ""
    rest = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    parts: list[str] = []
    for unit, seconds in SECTIONS:
        amount, rest = divmod(rest, seconds)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])


def state(word: str) -> Text:
    """A state in its colour."""
    return styled(word, STYLES.get(word, ""))


def at(moment: str) -> str:
    """A time to the minute: `2026-03-01 08:00 UTC`."""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def kept(until: str | None) -> str:
    """How long what a lost peer published is kept."""
    return f"kept until {at(until)} (`retain`)" if until else "kept until it is back (`retain` is 0)"
