"""What a custom resource's definition has against an object, evaluated here: fields, types, and rules in CEL.

API servers before 1.25 take the rules (`x-kubernetes-validations`) without evaluating them, and most take fields that
the definition does not know by dropping them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import cel
import jsonschema

from tests.backends.crds import definitions

Object = dict[str, Any]


@cache
def _schemas() -> dict[tuple[str, str], Object]:
    """The schema of each (apiVersion, kind)."""
    return {
        (f"{each['spec']['group']}/{version['name']}", each["spec"]["names"]["kind"]): version["schema"][
            "openAPIV3Schema"
        ]
        for each in definitions()
        for version in each["spec"]["versions"]
    }


def complaints(thing: Object) -> list[str]:
    """Everything that is wrong with an object, by where; none for a good one."""
    schema = _schemas().get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        return [f"{thing['apiVersion']} {thing['kind']} is not defined"]
    content = {key: thing[key] for key in thing.keys() - {"apiVersion", "kind", "metadata"}}
    found = [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(content)
    ]
    return found + list(_against(schema, content, "$"))


def rules(kind: str) -> int:
    """How many rules the definition of a kind has."""

    def count(schema: object) -> int:
        if isinstance(schema, list):
            return sum(map(count, schema))
        if not isinstance(schema, dict):
            return 0
        return len(schema.get("x-kubernetes-validations", ())) + sum(map(count, schema.values()))

    return sum(count(schema) for (version, name), schema in _schemas().items() if name == kind and "/v1" in version)


def _against(schema: Object, value: Any, at: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not cel.evaluate(rule["rule"], {"self": value}):
            yield f"{at}: {rule.get('message') or rule['rule']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for key, each in value.items():
            inner = known.get(key, others)
            if isinstance(inner, dict):
                yield from _against(inner, each, f"{at}.{key}")
            elif not inner and not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{at}.{key}: unknown field"
    elif isinstance(value, list):
        for position, each in enumerate(value):
            yield from _against(schema.get("items", {}), each, f"{at}[{position}]")
