"""A commented hamlet.yaml to start from, written from the model: every key with its meaning and default."""

from __future__ import annotations

import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hamlet_core.api import format_duration
from hamlet_core.config.keys import name_of, plain
from hamlet_core.config.model import Config
from hamlet_core.config.values import Loc

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9/.][\w./:-]*")

_EXAMPLES: Mapping[Loc, object] = types.MappingProxyType(
    {
        ("identity", "certificate"): "pki/agent.crt",
        ("identity", "key"): "pki/agent.key",
        ("identity", "bundle"): "pki/bundle.pem",
        ("registries", "local", "kind"): "file",
        ("gateway", "endpoints"): ["gateway.{domain}:443"],
        ("gateway", "sans"): ["gateway.{domain}"],
        ("egress", "kind"): "envoy",
        ("coordinator", "kind"): "file",
        ("publish", 0, "to"): "all",
        ("publish", 0, "select", "registry"): "local",
        ("publish", 0, "from"): "2026-03-01T08:00:00Z",
        ("publish", 0, "until"): "2026-09-01T08:00:00Z",
        ("peers", "east", "address"): "hamlet.east.example:8008",
        ("peers", "east", "bundle"): "peers/east.pem",
        ("peers", "east", "trust_domain"): "east.example",
        ("peers", "east", "spiffe_id"): "spiffe://east.example/hamlet/agent",
        ("peers", "east", "dns_name"): "hamlet.east.example",
        ("peers", "east", "fingerprint"): "0" * 64,
    }
)
"""What stands where there is no default; `{domain}` is the mesh's own."""

_ON = frozenset({("identity", "bundle"), ("peers", "east", "address"), ("peers", "east", "trust_domain")})
"""Keys that are shown in use although they have a default."""

_HEADER = """\
# The configuration of Hamlet's agent for the mesh {name}.
#
# What begins with # and no space is a key that is not set, with its default or an example: take the #
# away to set it, and that of the keys above it. `hamlet config check` says what is wrong with this file.
# Values may be ${{NAME}} or ${{NAME:-default}}, from the environment, or file:PATH, from a file.
# Paths are relative to this file. Durations: 30s, 10m, 24h, 7d.
"""


def template(*, name: str, domain: str, trust_domain: str, registry: Mapping[str, object]) -> str:
    """Write a hamlet.yaml for the mesh `name`; `registry` is its registry's `kind` and options.

    It loads as it is, and after any of its keys has been taken out of its comment.
    """
    given: dict[Loc, object] = {
        ("mesh", "name"): name,
        ("mesh", "domain"): domain,
        ("mesh", "trust_domain"): trust_domain,
    }
    given |= {("registries", "local", key): value for key, value in registry.items()}
    examples = {loc: _filled(value, domain) for loc, value in _EXAMPLES.items()} | given
    writer = _Writer(examples)
    lines = [line for block in writer.blocks(Config, (), shown=True) for line in ("", *block)]
    return _HEADER.format(name=name) + "\n".join(lines) + "\n"


class _Writer:
    def __init__(self, examples: Mapping[Loc, object]) -> None:
        self._examples = examples

    def blocks(self, model: type[BaseModel], loc: Loc, *, shown: bool) -> Iterator[list[str]]:
        """The lines of each key of a section. Where the section is shown, what has a default is commented out."""
        for name, field in model.model_fields.items():
            key = name_of(name, field)
            here = (*loc, key)
            optional = not field.is_required() and here not in _ON
            commented = optional and (shown or field.get_default(call_default_factory=True) is None)
            setting = self._setting(key, field, here, shown=shown and not commented)
            yield [*_prose(field), *(f"#{line}" for line in setting)] if commented else [*_prose(field), *setting]
        if extra := [key for place, key in self._beside(model, loc)]:
            yield [f"{key}: {_scalar(self._examples[*loc, key])}" for key in extra]

    def _beside(self, model: type[BaseModel], loc: Loc) -> Iterator[tuple[Loc, str]]:
        """Keys of an adapter's own: in the examples and not in the model."""
        for place in self._examples:
            if place[:-1] == loc and loc and str(place[-1]) not in model.model_fields and _allows_extra(model):
                yield place, str(place[-1])

    def _setting(self, key: str, field: FieldInfo, here: Loc, *, shown: bool) -> list[str]:
        kind = plain(field.annotation)
        if _is_model(kind):
            return [f"{key}:", *self._nested(kind, here, shown=shown)]
        origin, members = typing.get_origin(kind), typing.get_args(kind)
        if origin is dict and _is_model(members[1]):
            name = "local" if key == "registries" else "east"
            return [f"{key}:", f"  {name}:", *_indented(self._nested(members[1], (*here, name), shown=shown))]
        if origin is tuple and _is_model(members[0]):
            return [f"{key}:", "  -", *_indented(self._nested(members[0], (*here, 0), shown=shown))]
        value = self._examples[here] if here in self._examples else field.get_default(call_default_factory=True)
        return [f"{key}: {_scalar(value)}"]

    def _nested(self, model: type[BaseModel], here: Loc, *, shown: bool) -> list[str]:
        return _indented([line for block in self.blocks(model, here, shown=shown) for line in block])


def _prose(field: FieldInfo) -> list[str]:
    text = field.description or ""
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        text += " Required."
    elif default is not None and not isinstance(default, BaseModel):
        text += f" Default: {_scalar(default)}."
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _scalar(value: Any) -> str:
    """A value in YAML on one line."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not value.endswith(":"):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _filled(value: object, domain: str) -> object:
    if isinstance(value, list):
        return [_filled(item, domain) for item in value]
    return value.format(domain=domain) if isinstance(value, str) else value


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _allows_extra(model: type[BaseModel]) -> bool:
    return model.model_config.get("extra") == "allow"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
