"""The JSON Schema of hamlet.yaml, with the options of the adapters that are there, for editors and pipelines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from hamlet_core.api import format_duration
from hamlet_core.api.hookspecs import AdapterOptions
from hamlet_core.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}|^file:.",
    "description": "A value from elsewhere: ${NAME} or ${NAME:-default} in it, or file:PATH for the whole of it.",
}
_ABOUT = ("title", "description", "default", "examples")
_RULES = frozenset({"pattern", "enum", "const", "format", "minLength", "maxLength"})


class _Generator(GenerateJsonSchema):
    """Writes durations as hamlet.yaml has them, where pydantic writes ISO 8601."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def schema(adapter_options: Mapping[str, type[AdapterOptions]]) -> dict[str, Any]:
    """Describe hamlet.yaml (JSON Schema, draft 2020-12).

    `adapter_options` are the options of each adapter kind that a registry may have, and that `undescribed` finds
    nothing wrong with. A value of any scalar type may also be a reference; text of any form may hold one.
    """
    top, found = _described(Config, "{model}")
    kinds = []
    for kind, options in adapter_options.items():
        name = f"registry-{kind}"
        own, others = _described(options, f"{name}.{{model}}")  # what others call the same is another thing
        found |= others
        found[name] = {
            **own,
            "title": f"Registry of kind {kind}",
            "properties": {"kind": {"const": kind, "description": "The adapter."}, **own.get("properties", {})},
            "required": ["kind", *own.get("required", [])],
        }
        kinds.append(name)
    if kinds:
        found.pop("Registry")
        each = {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in kinds]}
        top["properties"]["registries"]["additionalProperties"] = each
    described = {"$schema": DIALECT, **_with_references(top), "title": "hamlet.yaml"}
    described["$defs"] = {
        **{name: _with_references(section) for name, section in found.items()},
        "Reference": _REFERENCE,
    }
    return described


def undescribed(options: type[AdapterOptions]) -> str:
    """Which option of the model no JSON Schema can describe, and why; an empty string where all can be."""
    mend = "its author gives it a type that JSON has, or says by pydantic.WithJsonSchema what it takes"
    try:
        _described(options, "{model}")
    except Exception as error:  # noqa: BLE001 - types of others describe themselves by code of their own
        why = _on_one_line(error)
    else:
        return ""
    for name, field in options.model_fields.items():
        alone: Any = {name: (field.annotation, field)}
        try:
            _described(create_model(options.__name__, __config__=options.model_config, **alone), "{model}")
        except Exception as error:  # noqa: BLE001 - as above
            return f"no JSON Schema can describe the option {name!r}: {_on_one_line(error)} ({mend})"
    return f"no JSON Schema can describe the options: {why}"


def _on_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _described(model: type[BaseModel], template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a model, and of the models in it by their names, in which {model} of `template` is their own."""
    names, schemas = models_json_schema(
        [(model, "validation")], ref_template=f"#/$defs/{template}", schema_generator=_Generator
    )
    found = {template.format(model=name): each for name, each in schemas["$defs"].items()}
    name = _name(names[model, "validation"])
    own = found[name]
    if f'"#/$defs/{name}"' not in json.dumps(found):  # a model may hold others of its kind
        del found[name]
    return own, found


def _name(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _with_references(section: dict[str, Any]) -> dict[str, Any]:
    """Let every scalar in a section be a reference too."""
    changed = dict(section)
    for key in ("properties", "additionalProperties", "items"):
        part = section.get(key)
        if key == "properties" and part:
            changed[key] = {name: _value(name, each) for name, each in part.items()}
        elif isinstance(part, dict):
            changed[key] = _value("", part)
    return changed


def _value(name: str, own: dict[str, Any]) -> dict[str, Any]:
    about = {key: own[key] for key in _ABOUT if key in own and key != "title"}
    rules = {key: value for key, value in own.items() if key not in _ABOUT}
    if name == "kind" or not rules:
        return {**about, **rules}
    choices = rules.get("anyOf", [rules])
    if any(_takes_reference(choice) for choice in choices):
        return {**about, "anyOf": [*choices, {"$ref": "#/$defs/Reference"}]}
    if "anyOf" in rules:
        return {**about, "anyOf": [_with_references(choice) for choice in choices]}
    return {**about, **_with_references(rules)}


def _takes_reference(choice: Mapping[str, Any]) -> bool:
    """Whether it is a scalar that a reference would not be a valid form of already."""
    kind = choice.get("type")
    return kind in {"integer", "number", "boolean"} or bool(_RULES & choice.keys() and kind in {"string", None})
