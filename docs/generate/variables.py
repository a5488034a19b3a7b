"""What a variable of a function may be when it is read: where it is set, and what calls give to a parameter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from docs.generate.source import Function, Module, walk


@dataclass(frozen=True, slots=True)
class Assignment:
    """A `value` that a variable is set to: all of it or its element `index`, of each of its items if `iterated`.

    `ways` are the branches that it stands in; what `settles` is passed for certain, so that nothing before it counts.
    """

    value: ast.expr
    index: int | None
    iterated: bool
    ways: tuple[tuple[object, int], ...]
    settles: bool


def assignments(name: ast.Name, function: Function, module: Module) -> Iterator[Assignment]:
    """The assignments that may reach `name`, the last one first; another function inside has variables of its own."""
    outer = {name, *module.around(name)}
    before = []
    for node in walk(function):
        for target, value, iterated in _targets(node, outer):
            index = _index(target, name.id)
            if index is not None and (_end(target) <= (name.lineno, name.col_offset) or iterated):
                before.append((node, value, None if index < 0 else index, iterated))
    for node, value, index, iterated in sorted(before, key=lambda each: _end(each[0]), reverse=True):
        if (node in outer and not iterated) or _in_another_branch(node, name, module):
            continue  # it is being set there, or is not on the way to it
        settles = _is_passed(node, outer, module) or iterated
        yield Assignment(value, index, iterated, tuple(_ways(node, outer, module)), settles)
        if settles:
            return


def _targets(node: ast.AST, outer: set[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """What a node sets to what; a loop sets its variables within itself alone."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value, False) for target in node.targets)
    elif isinstance(node, ast.AugAssign):
        both = ast.BinOp(node.target, node.op, node.value)  # what it was before, and this
        yield node.target, ast.copy_location(both, node), False
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield node.target, node.value, False
    elif isinstance(node, ast.For | ast.AsyncFor) and node in outer:
        yield node.target, node.iter, True
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) and node in outer:
        yield from ((each.target, each.iter, True) for each in node.generators)


def _index(target: ast.expr, name: str) -> int | None:
    """-1 where a target is that variable, its place where it is one of several, None where it is not."""
    if isinstance(target, ast.Name):
        return -1 if target.id == name else None
    elements = target.elts if isinstance(target, ast.Tuple) else []
    return next((at for at, each in enumerate(elements) if isinstance(each, ast.Name) and each.id == name), None)


def _end(node: ast.AST) -> tuple[int, int]:
    return (getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))


def _is_passed(node: ast.AST, outer: set[ast.AST], module: Module) -> bool:
    """Whether a statement stands in a block that what is in `outer` stands in, too."""
    inside = _block(node, module)
    return not isinstance(node, ast.NamedExpr) and any(each in outer for each in inside)


def _block(node: ast.AST, module: Module) -> list[ast.AST]:
    parent = module.parents[node]
    lists = (getattr(parent, field, None) for field in ("body", "orelse", "finalbody", "handlers"))
    return next((each for each in lists if isinstance(each, list) and node in each), [])


def _ways(node: ast.AST, outer: set[ast.AST], module: Module) -> Iterator[tuple[object, int]]:
    """The branches that a statement stands in, and what reads its variable does not."""
    return ((branch, way) for branch, way in _branches(node, module) if branch not in outer)


def _in_another_branch(node: ast.AST, name: ast.Name, module: Module) -> bool:
    """Whether a statement is left out where `name` is read."""
    ways = dict(_branches(name, module))
    return any(ways.get(branch, way) != way for branch, way in _branches(node, module))


def _branches(node: ast.AST, module: Module) -> Iterator[tuple[ast.AST, int]]:
    """The `if` that a node stands in, each with 1 where it stands in its `else`."""
    inner = node
    for around in module.around(node):
        if isinstance(around, ast.If) and inner is not around.test:
            yield around, int(inner in around.orelse)
        inner = around


def position_of(name: str, function: Function) -> int | None:
    """The position of a parameter, not counting `self` and `cls`; -1 for one that is given by name only."""
    arguments = function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args) if each.arg not in {"self", "cls"}]
    if name in positional:
        return positional.index(name)
    return -1 if name in {each.arg for each in arguments.kwonlyargs} else None


def default(name: str, function: Function) -> ast.expr | None:
    """What a parameter is when a call does not give it."""
    arguments = function.args
    positional = (*arguments.posonlyargs, *arguments.args)
    pairs = [
        *zip(positional[::-1], arguments.defaults[::-1], strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return next((value for parameter, value in pairs if parameter.arg == name), None)


def argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    """What a call gives to a parameter."""
    by_name = next((each.value for each in call.keywords if each.arg == name), None)
    given = call.args[position] if 0 <= position < len(call.args) else None
    return by_name if by_name is not None else given if not isinstance(given, ast.Starred) else None
