"""Which keys a place of the configuration may have, read from the model itself."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hamlet_core.config.values import Loc


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model that reads the mapping at `loc`, or None where there is none of ours."""
    found = _type_at(model, loc)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def allowed_keys(model: type[BaseModel], loc: Loc) -> tuple[str, ...]:
    """The keys that may stand in the mapping at `loc`, in the model's order."""
    section = model_at(model, loc)
    return tuple(name_of(name, field) for name, field in section.model_fields.items()) if section else ()


def description(model: type[BaseModel], loc: Loc) -> str:
    """What the key at `loc` means, or an empty string where nothing is known of it."""
    field = _field(model_at(model, loc[:-1]), loc[-1]) if loc else None
    return (field.description or "") if field else ""


def is_path(model: type[BaseModel], loc: Loc) -> bool:
    """Whether the key at `loc` takes a path."""
    return _type_at(model, loc) is Path


def name_of(name: str, field: FieldInfo) -> str:
    """How a field is called in the file (`from` is no name in Python)."""
    return field.alias or name


def _field(model: type[BaseModel] | None, key: str | int) -> FieldInfo | None:
    if model is None:
        return None
    return next((field for name, field in model.model_fields.items() if name_of(name, field) == key), None)


def _type_at(start: Any, loc: Loc) -> Any:
    found = start
    for part in loc:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = _field(found, part)
            found = field.annotation if field else None
        elif typing.get_origin(found) is dict:
            found = typing.get_args(found)[1]
        elif typing.get_origin(found) in (tuple, list):
            found = typing.get_args(found)[0]
        else:
            return None
        found = plain(found)
    return found


def plain(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`; of another union its first member."""
    while True:
        origin, members = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            annotation = members[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(member for member in members if member is not type(None))
        else:
            return annotation
