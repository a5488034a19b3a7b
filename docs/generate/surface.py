"""docs/public-api.txt: everything that is promised to stay, one line each, so that a change of it is seen as one.

A test compares it with the code; `make docs` writes it anew. It holds no prose.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import ModuleType
from typing import Annotated, Any, ForwardRef, get_origin

import click
from _pytest.fixtures import FixtureFunctionDefinition
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import hamlet_core.api
from docs.generate.configuration import keys_of
from docs.generate.metrics import exposed
from hamlet_core.api import (
    API_VERSION,
    PROJECT,
    AdapterOptions,
    AgentSpec,
    CoordinatorSpec,
    GatewaySpec,
    RegistrySpec,
    testing,
)
from hamlet_core.cli import COMMANDS, main
from hamlet_core.cli.exits import Exit
from hamlet_core.config.model import Config

SPECS = (AgentSpec, RegistrySpec, GatewaySpec, CoordinatorSpec)
"""The specs, each with the hooks of one kind of object."""

NOTICE = """\
# What is promised to stay, as docs/api.md explains. Written by docs/generate: `make docs`.
# A line that goes or changes is a change of the public API, and needs what docs/api.md asks for.
"""


def public_api() -> str:
    """docs/public-api.txt."""
    sections: Mapping[str, Iterator[str]] = {
        "entry points": iter((f"group {PROJECT}", f"api_version {API_VERSION}")),
        "hooks": _hooks(),
        "hamlet_core.api": _module(hamlet_core.api),
        "hamlet_core.api.testing": _module(testing),
        "hamlet.yaml": _keys(),
        "command line": _commands(),
        "exit codes": (f"{int(code)} {code.name}" for code in Exit),
        "metrics": (f"{each.name} {each.kind} {' '.join(each.labels)}".rstrip() for each in exposed()),
    }
    parts = [f"[{title}]\n" + "".join(f"{line}\n" for line in lines) for title, lines in sections.items()]
    return "\n".join([NOTICE, *parts])


def hooks_of(spec: type) -> dict[str, Callable[..., object]]:
    """The hooks of a spec in its order."""
    marked = f"{PROJECT}_spec"
    return {name: hook for name, hook in vars(spec).items() if inspect.isfunction(hook) and hasattr(hook, marked)}


def signature(name: str, function: Callable[..., object]) -> str:
    """A signature as one would write it, without self."""
    shown = inspect.signature(function)
    written: list[str] = []
    for key, each in shown.parameters.items():
        if key in ("self", "cls"):
            continue
        if each.kind is each.VAR_POSITIONAL:
            key = f"*{key}"
        elif each.kind is each.KEYWORD_ONLY and not any(word.startswith("*") for word in written):
            written.append("*")
        default = "" if each.default is each.empty else f" = {literal(each.default)}"
        written.append(f"{key}: {_name(each.annotation)}{default}")
    returned = shown.return_annotation
    arrow = "" if returned in (inspect.Signature.empty, None, "None") and name.endswith("__init__") else None
    return f"{name}({', '.join(written)}){f' -> {_name(returned)}' if arrow is None else arrow}"


def literal(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return value.__name__ if inspect.isclass(value) else repr(value)


def suites() -> list[type]:
    """The contract suites that the kit exports."""
    return [getattr(testing, name) for name in testing.__all__ if name.endswith("Contract")]


def _hooks() -> Iterator[str]:
    for spec in SPECS:
        for name, hook in hooks_of(spec).items():
            first = " firstresult" if getattr(hook, f"{PROJECT}_spec")["firstresult"] else ""
            yield f"{spec.__name__}.{signature(name, hook)}{first}"


def _module(module: ModuleType) -> Iterator[str]:
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if value in SPECS or isinstance(value, ModuleType):
            yield name
        elif value in suites() if inspect.isclass(value) else False:
            yield from _suite(name, value)
        elif inspect.isclass(value):
            yield from _class(name, value)
        elif inspect.isfunction(inspect.unwrap(value)):
            yield signature(name, inspect.unwrap(value))
        else:
            yield f"{name} = {alias(value)}"


def _suite(name: str, value: type) -> Iterator[str]:
    """What a plugin's subclass overrides (fixtures and settings) and can call, and every check that it is given."""
    yield f"{name} (a suite of checks)"
    for key in dir(value):
        member = getattr(value, key)
        if key.startswith("_"):
            continue
        if key.startswith("test_"):
            yield f"{name}.{key} (a check)"
        elif isinstance(member, FixtureFunctionDefinition):
            yield f"{name}.{key} (a fixture)"
        elif inspect.isfunction(inspect.unwrap(member)):
            yield signature(f"{name}.{key}", inspect.unwrap(member))
        else:
            shown = f"{type(member).__name__}(...)" if dataclasses.is_dataclass(member) else literal(member)
            yield f"{name}.{key} = {shown}"


def _class(name: str, value: type) -> Iterator[str]:
    bases = [base.__name__ for base in value.__bases__ if base.__name__ not in ("object", "tuple")]
    yield f"{name}({', '.join(bases)})" if bases else name
    if issubclass(value, Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in value)
        return
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            if each.name.startswith("_"):
                continue
            default = "" if each.default is dataclasses.MISSING else f" = {literal(each.default)}"
            default = " = ..." if each.default_factory is not dataclasses.MISSING else default
            yield f"{name}.{each.name}: {each.type}{default}"
    elif issubclass(value, tuple):
        yield from (f"{name}.{key}: {_name(kind)}" for key, kind in inspect.get_annotations(value).items())
    elif not issubclass(value, AdapterOptions):
        if "__init__" in vars(value):
            yield signature(f"{name}.__init__", vars(value)["__init__"])
        yield from (f"{name}.{key}: {_name(kind)}" for key, kind in inspect.get_annotations(value).items())
        yield from (f"{name}.{key} (an attribute)" for key in _set_at_first(value))
    for key, member in vars(value).items():
        if key.startswith("_") or issubclass(value, BaseModel):
            continue
        abstract = " (abstract)" if getattr(member, "__isabstractmethod__", False) else ""
        if isinstance(member, property):
            yield f"{name}.{key} (property){abstract}"
        elif inspect.isfunction(inspect.unwrap(member)):
            yield signature(f"{name}.{key}", member) + abstract


def _set_at_first(value: type) -> Iterator[str]:
    """The public attributes that `__init__` sets, and that no annotation of the class has said."""
    if "__init__" not in vars(value):
        return
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(vars(value)["__init__"]))).body
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    own = dict.fromkeys(node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self")
    said = inspect.get_annotations(value)
    yield from (key for key in own if not key.startswith("_") and key not in said)


def _keys() -> Iterator[str]:
    for place, field in keys_of(Config):
        default = "required" if field.default is PydanticUndefined and field.is_required() else "optional"
        yield f"{place} ({default})"


def _commands() -> Iterator[str]:
    yield from _options(main, "hamlet")
    for name, lazy in COMMANDS.items():
        yield from _command(lazy.load(), f"hamlet {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    arguments = [each.human_readable_name for each in command.params if isinstance(each, click.Argument)]
    yield " ".join([path, *arguments])
    yield from _options(command, path)
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from _command(sub, f"{path} {name}")


def _options(command: click.Command, path: str) -> Iterator[str]:
    for each in command.params:
        if isinstance(each, click.Option) and not each.hidden:
            yield f"{path} {', '.join(each.opts)}"


def _name(kind: Any) -> str:
    if isinstance(kind, ForwardRef):
        return kind.__forward_arg__
    return kind.__name__ if inspect.isclass(kind) and not isinstance(kind, types.GenericAlias) else str(kind)


def alias(value: object) -> str:
    """What a name that is no class and no function stands for."""
    if isinstance(value, int | str) or (dataclasses.is_dataclass(value) and not inspect.isclass(value)):
        return repr(value)
    shown = value.__origin__ if get_origin(value) is Annotated else value  # type: ignore[attr-defined]
    if " at 0x" in repr(shown):
        return type(shown).__name__
    text = shown.__name__ if inspect.isclass(shown) else str(shown)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
