"""What pydantic finds wrong with a value, in the words of the files that people write: no names of Python's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from pydantic_core import ErrorDetails

from hamlet_core.api.values import format_duration

_BELOW = ("must be keys and values", "write them below it")
_LIST = ("must be a list", "write for example [a, b]")
_TRUTH = ("must be true or false", "")
_WHOLE = ("must be a whole number", "")
_NUMBER = ("must be a number", "")
_TEXT = ("must be text", "put it in quotes")
_TIME = ("must be a time", "write for example 2026-03-01T08:00:00Z")
_DURATION = ("must be a duration", "write for example 30s, 10m, 24h or 1h30m")

SENTENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "bool_parsing": _TRUTH,
        "bool_type": _TRUTH,
        "datetime_from_date_parsing": _TIME,
        "datetime_object_invalid": _TIME,
        "datetime_parsing": _TIME,
        "datetime_type": _TIME,
        "dict_type": _BELOW,
        "enum": ("must be {expected}", ""),
        "extra_forbidden": ("unknown key", ""),
        "finite_number": ("must be a finite number", ""),
        "float_parsing": _NUMBER,
        "float_type": _NUMBER,
        "frozen_set_type": _LIST,
        "greater_than": ("must be greater than {gt}", ""),
        "greater_than_equal": ("must be at least {ge}", ""),
        "int_from_float": _WHOLE,
        "int_parsing": _WHOLE,
        "int_parsing_size": ("must be a smaller number", ""),
        "int_type": _WHOLE,
        "invalid_key": ("has a key that is no text", "put it in quotes"),
        "less_than": ("must be less than {lt}", ""),
        "less_than_equal": ("must be at most {le}", ""),
        "list_type": _LIST,
        "literal_error": ("must be {expected}", ""),
        "missing": ("this key is required", ""),
        "model_attributes_type": _BELOW,
        "model_type": _BELOW,
        "path_type": ("must be a path", "put it in quotes"),
        "set_type": _LIST,
        "string_pattern_mismatch": ("must have the form {pattern}", ""),
        "string_too_long": ("must have at most {max_length} characters", ""),
        "string_too_short": ("must have at least {min_length} characters", ""),
        "string_type": _TEXT,
        "string_unicode": _TEXT,
        "time_delta_parsing": _DURATION,
        "time_delta_type": _DURATION,
        "timezone_aware": ("must have a zone", "write for example 2026-03-01T08:00:00Z"),
        "too_long": ("must not have more than {max_length}", ""),
        "too_short": ("must have at least {min_length}", ""),
        "tuple_type": _LIST,
    }
)
"""The message and the mend of each type of error; in braces what pydantic's context has. None tells of the value."""

_QUOTED = 80
"""Characters of a value that is told."""
_UNITS = ("days", "hours", "minutes", "seconds", "microseconds")
_AMOUNT = re.compile(rf"(\d+) ({'|'.join(unit[:-1] for unit in _UNITS)})s?")


def in_words(details: ErrorDetails, *, quote: bool = False) -> tuple[str, str]:
    """What is wrong with a value, in a few words that follow the key's name, and what to do (often empty).

    `details` is one of `ValidationError.errors()`, with its context. With `quote` a short and plain value is told as
    well. Without, nothing of it is, except by a validator of your own: its message is returned as it is.
    """
    kind, context = details["type"], details.get("ctx", {})
    if isinstance(cause := context.get("error"), Exception):
        return str(cause), ""
    if kind in ("string_too_short", "too_short") and context.get("min_length") == 1:
        return "must not be empty", ""
    if kind not in SENTENCES:
        said = details["msg"]
        return (said[:1].lower() + said[1:]).replace("input should be", "must be"), ""
    message, mend = SENTENCES[kind]
    message = message.format(**{name: _written(value) for name, value in context.items()})
    if quote and kind not in ("missing", "extra_forbidden"):
        message += _quoted(details["input"])
    return message, mend


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    return f", not {value!r}" if isinstance(value, (str, int, float)) and len(str(value)) <= _QUOTED else ""


def _written(limit: object) -> str:
    """A limit as people write it; pydantic says one that is a duration in words, or as Python would."""
    said = str(limit)
    if amounts := _AMOUNT.findall(said):
        return format_duration(timedelta(**{f"{unit}s": int(amount) for amount, unit in amounts}))
    if said.startswith("datetime.timedelta("):
        return format_duration(timedelta(**{unit: int(amount) for unit, amount in re.findall(r"(\w+)=(\d+)", said)}))
    return said
