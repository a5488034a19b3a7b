"""The kind of value that the core's keys and adapters' options share: durations, as hamlet.yaml writes them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_NUMBER = re.compile(r"\d+(\.\d+)?")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|[smhd]))+$|^\d+(\.\d+)?$"},
        {"type": "number", "minimum": 0},
    ]
}


def parse_duration(value: object) -> object:
    """Read `90s`, `1h30m`, `250ms` or a bare number of seconds; what is no text is left for pydantic to judge."""
    if isinstance(value, bool):
        message = f"{value!r} is no duration: write for example 30s, 10m, 24h or 1h30m"
        raise ValueError(message)
    if not isinstance(value, str):
        return value
    try:
        if _NUMBER.fullmatch(value):
            return timedelta(seconds=float(value))
        parts = _DURATION.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError as error:
        message = f"{value!r} is too long a duration; 0 often means for ever"
        raise ValueError(message) from error
    message = f"{value!r} is no duration: write for example 30s, 10m, 24h or 1h30m"
    raise ValueError(message)


def format_duration(value: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, to the millisecond, in the largest units that fit."""
    left = round(value / timedelta(milliseconds=1))
    parts = []
    for unit, seconds in _UNITS.items():
        count, left = divmod(left, round(seconds * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    Field(ge=timedelta(0)),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A `timedelta` of at least 0, read by `parse_duration`; `Annotated[Duration, Field(gt=..., le=...)]` narrows it."""
