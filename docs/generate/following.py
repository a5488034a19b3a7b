"""Where an expression has its text from: variables, parameters, constants, tables, and what functions return."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from docs.generate.source import Function, Module, Source, returned
from docs.generate.variables import argument, assignments, default, position_of

SAME = frozenset({"one_line", "str"})
"""Functions whose result is the text of their argument."""
OF_ITEMS = frozenset({"MappingProxyType", "filter", "iter", "join", "list", "next", "reversed", "sorted", "tuple"})
"""Functions whose result has the words of what is in their arguments."""
OF_ITSELF = frozenset({"format", "removeprefix", "removesuffix", "replace", "strip"})
"""Methods of a text whose result has its words."""
ELSEWHERE = frozenset({"in_words"})
"""Functions whose words are listed for themselves."""

Choices = frozenset[tuple[object, int]]
"""Which way was taken where there are several: two texts that were read on contradicting ways do not go together."""
NONE: Choices = frozenset()


@dataclass(frozen=True, slots=True)
class At:
    """An expression, the module it stands in, and what was chosen on the way to it."""

    node: ast.expr
    module: Module
    choices: Choices = NONE

    def beside(self, node: ast.expr) -> At:
        """Another expression of the same module, on the same way."""
        return At(node, self.module, self.choices)

    def on(self, node: ast.expr, place: object, way: int) -> Iterator[At]:
        """`node` on that way from `place`, unless another was chosen there before."""
        if (choices := together(self.choices, frozenset({(place, way)}))) is not None:
            yield At(node, self.module, choices)


def together(one: Choices, other: Choices) -> Choices | None:
    """Both, or None where they contradict each other."""
    known = dict(one)
    return None if any(known.get(place, way) != way for place, way in other) else one | other


def called(call: ast.Call) -> str:
    """The name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@dataclass(frozen=True)
class Follower:
    """Follows expressions of a source, to a `depth` that keeps it from going round for ever."""

    source: Source

    def sources(self, at: At, depth: int) -> Iterator[At]:
        """The expressions that one has its text from; none where that cannot be told."""
        node = at.node
        if isinstance(node, ast.IfExp):
            for way, side in enumerate((node.body, node.orelse)):
                yield from at.on(side, ast.dump(node.test), way)
        elif isinstance(node, ast.BoolOp):
            yield from map(at.beside, node.values)
        elif isinstance(node, ast.Starred | ast.Await | ast.NamedExpr):
            yield at.beside(node.value)
        elif isinstance(node, ast.Name):
            yield from self._values(at, node, depth)
        elif isinstance(node, ast.Subscript):
            yield from self._subscript(at, node, depth)
        elif isinstance(node, ast.Attribute):
            yield from self._attribute(at, node)
        elif isinstance(node, ast.Call):
            yield from self._call(at, node, depth)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.ListComp | ast.GeneratorExp):
            yield from self.items(at, depth)

    def items(self, at: At, depth: int) -> Iterator[At]:
        """The expressions of what is in a collection, or what is iterated over."""
        node = at.node
        if depth == 0:
            return
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            for way, each in enumerate(node.values if isinstance(node, ast.Dict) else node.elts):
                for here in at.on(each, node, way):
                    yield from self.items(here, depth - 1) if isinstance(each, ast.Starred) else [here]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            yield at.beside(node.elt)
        elif isinstance(node, ast.Call) and called(node) not in OF_ITEMS:
            for result in self._results(at, node):
                yield from [result] if _is_yielded(result) else self.items(result, depth - 1)
        else:
            for inner in self._collections(at, depth):
                yield from self.items(inner, depth - 1)

    def _collections(self, at: At, depth: int) -> Iterator[At]:
        """The collections that one is made of."""
        if isinstance(at.node, ast.BinOp) and isinstance(at.node.op, ast.Add):
            return map(at.beside, (at.node.left, at.node.right))
        return map(at.beside, at.node.args) if isinstance(at.node, ast.Call) else self.sources(at, depth - 1)

    def element(self, at: At, index: int, depth: int) -> Iterator[At]:
        """The expressions of one element of a tuple, also of one that a function returns."""
        node = at.node
        if isinstance(node, ast.Call) and called(node) in ELSEWHERE:
            yield at
        elif isinstance(node, ast.Tuple):
            yield from [at.beside(node.elts[index])] if index < len(node.elts) else []
        elif isinstance(node, ast.Call) and called(node) == "get" and isinstance(node.func, ast.Attribute):
            for item in self.items(at.beside(node.func.value), depth):  # of a table of tuples
                yield from self.element(item, index, depth - 1)
            for given in node.args[1:]:
                yield from self.element(at.beside(given), index, depth - 1)
        elif depth:
            for source in self.sources(at, depth):
                yield from self.element(source, index, depth - 1)

    def _call(self, at: At, call: ast.Call, depth: int) -> Iterator[At]:
        name = called(call)
        if name in OF_ITSELF and isinstance(call.func, ast.Attribute):
            yield at.beside(call.func.value)
        elif name in SAME:
            yield from map(at.beside, call.args)
        elif name in OF_ITEMS:
            for each in call.args:
                yield from self.items(at.beside(each), depth)
        else:
            yield from self._results(at, call)

    def _results(self, at: At, call: ast.Call) -> Iterator[At]:
        """What the function that is called returns or yields."""
        if (found := self.source.called(call, at.module)) is None:
            return
        function, module = found
        sites = [each for each, _ in self.source.calls[function]]
        if (choices := together(at.choices, frozenset({(function, sites.index(call))}))) is not None:
            for way, value in enumerate(returned(function, module)):
                yield from At(value, module, choices).on(value, call, way)

    def _subscript(self, at: At, node: ast.Subscript, depth: int) -> Iterator[At]:
        """An element by its number, or any of a table of texts."""
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            yield from self.element(at.beside(node.value), node.slice.value, depth)
        elif isinstance(node.slice, ast.Name) and isinstance(node.value, ast.Name):
            yield from self.items(at.beside(node.value), depth)

    def _attribute(self, at: At, node: ast.Attribute) -> Iterator[At]:
        """A constant of another module, the name of an error's class, or a property that one class alone has."""
        if isinstance(node.value, ast.Name) and (other := self.source.module_of(node.value.id, at.module)):
            if (constant := other.value_of(node.attr)) is not None:
                yield At(constant, other, at.choices)
        elif node.attr == "__name__" and isinstance(node.value, ast.Call) and called(node.value) == "type":
            yield from map(at.beside, node.value.args)
        elif len(found := self.source.properties.get(node.attr, ())) == 1:
            yield from (At(value, found[0][1], at.choices) for value in returned(*found[0]))

    def _values(self, at: At, name: ast.Name, depth: int) -> Iterator[At]:
        """What a variable is set to before it is read; what its parameter is given; what its constant is."""
        function = at.module.function_of(name)
        while function is not None:
            found = list(assignments(name, function, at.module))
            for each in found:
                if (choices := together(at.choices, frozenset(each.ways))) is None:
                    continue
                value = At(each.value, at.module, choices)
                for source in self.items(value, depth - 1) if each.iterated else [value]:
                    yield from [source] if each.index is None else self.element(source, each.index, depth - 1)
            if any(each.settles for each in found):
                return
            if (position := position_of(name.id, function)) is not None:
                yield from self._given(at, name.id, position, function)
                return
            if found:
                return
            function = at.module.function_of(function)
        origin = self.source.origin(name.id, at.module)
        if origin is not None and (constant := origin[0].value_of(origin[1])) is not None:
            yield At(constant, origin[0], at.choices)

    def _given(self, at: At, name: str, position: int, function: Function) -> Iterator[At]:
        """What the calls of a function give to its parameter."""
        for way, (call, caller) in enumerate(self.source.calls.get(function, ())):
            if (given := argument(call, name, position)) is not None:
                yield from At(given, caller, at.choices).on(given, function, way)
            elif (given := default(name, function)) is not None:
                yield from at.on(given, function, way)


def _is_yielded(at: At) -> bool:
    return isinstance(at.module.parents.get(at.node), ast.Yield)
