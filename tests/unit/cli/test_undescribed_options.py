"""Options that no JSON Schema can describe, or whose model fails, are told by plugin and option; others are well."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.unit.cli.packages import CONFIG, GATEWAY, Hamlet, Install, listed

REGISTRY = GATEWAY.replace('role="gateway"', 'role="registry"').replace("options=AdapterOptions", "options=Options")
OPTIONS = """
    from collections.abc import Callable
    from typing import Any, Annotated
    from pydantic import BaseModel, Field, GetJsonSchemaHandler, field_validator
    from hamlet_core.api import AdapterOptions

    class Failing:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            return handler(int)
        @classmethod
        def __get_pydantic_json_schema__(cls, schema, handler):
            raise KeyError("x")

    class Inner(BaseModel):
        deep: Callable[[int], int]

    class Options(AdapterOptions):
        name: str = ""
        {option}
"""
WRONG = {  # the option, and what is said of it
    "a function": (
        "hook: Callable[[int], int]",
        "the option 'hook': PydanticInvalidForJsonSchema: Cannot generate a JsonSchema for core_schema.Callable",
    ),
    "a model with one": ("inner: Inner | None = None", "the option 'inner': PydanticInvalidForJsonSchema: "),
    "a type that fails": ("mine: Failing", "the option 'mine': KeyError: 'x'"),
    "a type that is not there": ("late: 'Later | None' = None", "the option 'late': PydanticUserError: "),
}


@pytest.mark.parametrize(("option", "said"), WRONG.values(), ids=WRONG)
def test_a_kind_without_a_schema_is_left_out_and_told_and_no_other(
    hamlet: Hamlet, install: Install, option: str, said: str
) -> None:
    install("door", OPTIONS.format(option=option) + REGISTRY)
    install("shelf", OPTIONS.format(option="size: int = 3") + REGISTRY.replace("door", "shelf"))
    done = hamlet("config", "schema")
    assert done.returncode == 0, done.stderr
    described = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(described)
    assert "size" in described["$defs"]["registry-shelf"]["properties"]
    assert "registry-door" not in described["$defs"]
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("plugin 'door' of acme-door is left out: no JSON Schema can describe ")
    assert said in done.stderr
    found = listed(hamlet)
    assert f"`hamlet config schema` leaves it out: no JSON Schema can describe {said}" in str(
        found["door"]["problem"]
    )
    assert found["door"]["provides"] == ["registry"]
    assert found["shelf"]["problem"] is None


def test_a_gateway_is_not_in_the_schema_so_that_nothing_is_wrong_with_it(hamlet: Hamlet, install: Install) -> None:
    gateway = REGISTRY.replace('role="registry"', 'role="gateway"')
    install("door", OPTIONS.format(option="hook: Callable[[int], int]") + gateway)
    assert listed(hamlet)["door"]["problem"] is None
    assert hamlet("config", "schema").stderr == ""


def test_a_model_of_the_same_name_as_one_of_ours_is_another(hamlet: Hamlet, install: Install) -> None:
    ours = "    class Registry(BaseModel):\n        host: str\n\n    class Options"
    source = OPTIONS.format(option="beside: Registry | None = None").replace("    class Options", ours)
    install("door", source + REGISTRY)
    install("shelf", source.replace("host", "port") + REGISTRY.replace("door", "shelf"))
    done = hamlet("config", "schema")
    assert (done.returncode, done.stderr) == (0, "")
    named = json.loads(done.stdout)["$defs"]
    assert list(named["registry-door.Registry"]["properties"]) == ["host"]
    assert list(named["registry-shelf.Registry"]["properties"]) == ["port"]


def test_a_model_that_fails_is_a_problem_with_its_place_and_without_values(hamlet: Hamlet, install: Install) -> None:
    rule = "@field_validator('name')\n        def rule(cls, value):\n            return {}[value]"
    install("door", OPTIONS.format(option=rule) + REGISTRY)
    door = CONFIG.replace("{kind: file, path: mesh}", "{kind: door, name: hunter2}")
    for command in ("config check", "check", "run"):
        done = hamlet(*command.split(), config=door)
        assert done.returncode == 2, (command, done)
        assert "hamlet.yaml:3: registries.main.kind: the model of its options fails with KeyError in " in done.stderr
        assert "packages/door.py, line " in done.stderr
        assert "a fault of the adapter" in done.stderr
        assert "hunter2" not in done.stderr
