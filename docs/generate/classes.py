"""The classes of errors of the source code, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from docs.generate.source import source, walk

BUILT_IN = frozenset({"Exception", "ValueError", "TypeError", "RuntimeError"})
"""Classes of Python's own that errors derive from, or that are raised with a sentence for a person."""
_ROOT_CLASS = "HamletError"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorClass:
    """A class of errors: its `name`, what it derives from, its docstring, and the distribution that has it.

    `arguments` are the names of what its constructor takes by position; empty where it has none of its own.
    """

    name: str
    parent: str
    doc: str
    distribution: str
    module: str
    arguments: Sequence[str]


@cache
def exceptions() -> Mapping[str, ErrorClass]:
    """Every class of errors, by name, parents first."""
    classes = [
        (node, module) for module in source().modules for node in walk(module.tree) if isinstance(node, ast.ClassDef)
    ]
    found: dict[str, ErrorClass] = {}
    grown = True
    while grown:
        grown = False
        for node, module in classes:
            parents = [base.id for base in node.bases if isinstance(base, ast.Name)]
            parent = next((each for each in parents if each in found or each in BUILT_IN), "")
            if node.name not in found and parent:
                init = module.defined("__init__", within=node)
                found[node.name] = ErrorClass(
                    name=node.name,
                    parent=parent,
                    doc=ast.get_docstring(node) or "",
                    distribution=module.distribution,
                    module=module.name,
                    arguments=[each.arg for each in init.args.args[1:]] if init else [],
                )
                grown = True
    return MappingProxyType(found)


@cache
def error_classes() -> Mapping[str, ErrorClass]:
    """`HamletError` and everything that derives from it, by name, parents first."""
    return MappingProxyType({name: each for name, each in exceptions().items() if _is_ours(name)})


def _is_ours(name: str) -> bool:
    found = exceptions().get(name)
    return name == _ROOT_CLASS or (found is not None and _is_ours(found.parent))


def arguments_of(name: str) -> Sequence[str]:
    """What the constructor of a class of errors takes by position, or that of what it derives from."""
    found = exceptions().get(name)
    return found.arguments or arguments_of(found.parent) if found else ()
