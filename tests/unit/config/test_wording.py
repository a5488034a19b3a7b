"""What pydantic finds wrong is told in the words of the file, for every model that reads one."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, core_schema

from hamlet_core.api import in_words
from hamlet_core.api.wording import SENTENCES
from hamlet_core.config.model import Config
from hamlet_core.plugins import loader

WRONG: tuple[Any, ...] = (
    None, True, "", "maybe", "9" * 5000, "500000000d", "2026-03-01", "2026-03-01T08:00:00", "\ud800", b"\xff",
    0, 1, -1, 1.5, -(10**9), 10**30, 1e20, float("nan"), float("inf"),
    [], [1], [None], ["a"], [[]], {}, {1: 2}, {"a": None}, {"a": 1}, {"x": {}},
)  # fmt: skip
"""Values of every kind that YAML has, and then some."""
OF_PYTHON = re.compile(
    r"(?i)\b(valid|input|instance|dict|dictionary|tuple|boolean|integer|string|float|datetime|timedelta|class|none)\b|[{}<>]"
)


def models() -> Iterator[type[BaseModel]]:
    """Every model that reads something of hamlet.yaml, those of the installed adapters among them."""
    roots: list[type[BaseModel]] = [Config]
    for plugin in loader.installed():
        if "registry" in plugin.provides:
            roots.append(loader.load([plugin.name]).adapters[plugin.name].options)
        if "gateway" in plugin.provides:
            roots.append(loader.load(gateways=[plugin.name]).gateways[plugin.name].options)
        if "coordinator" in plugin.provides:
            roots.append(loader.load(coordinators=[plugin.name]).coordinators[plugin.name].options)
    seen: set[type[BaseModel]] = set()
    while roots:
        model = roots.pop()
        if model not in seen:
            seen.add(model)
            yield model
            roots += [inner for field in model.model_fields.values() for inner in _models_in(field.annotation)]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def refusals(model: type[BaseModel]) -> Iterator[ErrorDetails]:
    """What is said of wrong values for the model itself and for each of its keys."""
    given = [*WRONG, *({field.alias or name: value} for name, field in model.model_fields.items() for value in WRONG)]
    for value in given:
        try:
            model.model_validate(value)
        except ValidationError as error:
            yield from error.errors(include_url=False)


def test_no_model_says_anything_in_the_words_of_python() -> None:
    told = set()
    for model in models():
        for details in refusals(model):
            told.add(details["type"])
            if details["type"] == "value_error":  # the model's own sentence
                continue
            assert details["type"] in SENTENCES, f"{model.__name__}: {details['msg']}"
            message, mend = in_words(details)
            assert not OF_PYTHON.search(re.sub("'.*'", "", f"{message} {mend}")), message
    assert {"bool_parsing", "int_type", "missing", "tuple_type", "greater_than", "literal_error"} <= told


def test_every_type_of_error_that_has_a_sentence_is_one_of_pydantics() -> None:
    of_the_library = {"path_type"}  # of pydantic, where the others are of its core
    assert set(SENTENCES) <= set(typing.get_args(core_schema.ErrorType)) | of_the_library


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Section(BaseModel):
    name: str


SAID = [
    (bool, "maybe", "must be true or false, not 'maybe'", ""),
    (int, "many", "must be a whole number, not 'many'", ""),
    (int, 1.5, "must be a whole number, not 1.5", ""),
    (Annotated[int, Field(strict=True)], True, "must be a whole number, not true", ""),
    (int, "9" * 5000, "must be a smaller number", ""),
    (float, "many", "must be a number, not 'many'", ""),
    (Annotated[float, Field(allow_inf_nan=False)], "inf", "must be a finite number, not 'inf'", ""),
    (str, 5, "must be text, not 5", "put it in quotes"),
    (str, None, "must be text", "put it in quotes"),
    (Annotated[str, Field(min_length=1)], "", "must not be empty", ""),
    (Annotated[str, Field(min_length=2)], "a", "must have at least 2 characters, not 'a'", ""),
    (Annotated[str, Field(max_length=2)], "abc", "must have at most 2 characters, not 'abc'", ""),
    (Annotated[str, Field(pattern="^a$")], "b", "must have the form ^a$, not 'b'", ""),
    (Annotated[int, Field(gt=1)], 1, "must be greater than 1, not 1", ""),
    (Annotated[int, Field(ge=1)], 0, "must be at least 1, not 0", ""),
    (Annotated[int, Field(lt=1)], 1, "must be less than 1, not 1", ""),
    (Annotated[int, Field(le=65535)], 70000, "must be at most 65535, not 70000", ""),
    (Annotated[timedelta, Field(le=timedelta(minutes=10))], timedelta(1), "must be at most 10m", ""),
    (Annotated[timedelta, Field(le=timedelta(hours=1, seconds=30))], timedelta(1), "must be at most 1h30s", ""),
    (Annotated[timedelta, Field(gt=timedelta(0))], timedelta(0), "must be greater than 0s", ""),
    (timedelta, [], "must be a duration", "write for example 30s, 10m, 24h or 1h30m"),
    (datetime, "soon", "must be a time, not 'soon'", "write for example 2026-03-01T08:00:00Z"),
    (AwareDatetime, "2026-03-01T08:00:00", "must have a zone, not '2026-03-01T08:00:00'",
     "write for example 2026-03-01T08:00:00Z"),
    (Literal["a", "b"], "c", "must be 'a' or 'b', not 'c'", ""),
    (Colour, "green", "must be 'red' or 'blue', not 'green'", ""),
    (Path, 5, "must be a path, not 5", "put it in quotes"),
    (tuple[str, ...], "a", "must be a list, not 'a'", "write for example [a, b]"),
    (Annotated[tuple[str, ...], Field(min_length=1)], [], "must not be empty", ""),
    (Annotated[list[str], Field(min_length=2)], ["a"], "must have at least 2", ""),
    (Annotated[list[str], Field(max_length=1)], ["a", "b"], "must not have more than 1", ""),
    (dict[str, str], "a", "must be keys and values, not 'a'", "write them below it"),
    (Section, "a", "must be keys and values, not 'a'", "write them below it"),
    (Section, {}, "this key is required", ""),
]  # fmt: skip


def refused(kind: Any, value: object) -> ErrorDetails:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    return error.value.errors()[0]


@pytest.mark.parametrize(("kind", "value", "message", "mend"), SAID)
def test_a_wrong_value_is_told_in_the_words_of_the_file(kind: Any, value: object, message: str, mend: str) -> None:
    assert in_words(refused(kind, value), quote=True) == (message, mend)


@pytest.mark.parametrize(("kind", "value"), [each[:2] for each in SAID])
def test_a_value_is_not_told_where_it_may_be_a_secret(kind: Any, value: object) -> None:
    assert ", not " not in in_words(refused(kind, value))[0]


def test_what_has_no_sentence_of_ours_is_told_in_pydantics_own_words() -> None:
    details = refused(complex, "a")
    assert details["type"] not in SENTENCES
    assert in_words(details)[0].startswith("must be a valid python complex object")
