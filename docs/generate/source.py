"""The source of the agent and of the plugins as trees, read without running it: who calls whom, what stands where."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def walk(node: ast.AST) -> tuple[ast.AST, ...]:
    """A node and all below it, as `ast.walk` finds them; they are asked for many times."""
    return tuple(ast.walk(node))


@dataclass(frozen=True, eq=False)
class Module:
    """A module of `distribution`; `file` is its path below the root of the repository."""

    distribution: str
    name: str
    file: str
    tree: ast.Module = field(repr=False)

    @cached_property
    def parents(self) -> Mapping[ast.AST, ast.AST]:
        """What each node stands in."""
        return {child: node for node in walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def imported(self) -> Mapping[str, str]:
        """The names that `from ... import` brings, each with its dotted origin."""
        found = (node for node in walk(self.tree) if isinstance(node, ast.ImportFrom))
        return {each.asname or each.name: f"{node.module}.{each.name}" for node in found for each in node.names}

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node stands in, from the inside out."""
        while (outer := self.parents.get(node)) is not None:
            yield outer
            node = outer

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function that a node stands in."""
        return next((each for each in self.around(node) if isinstance(each, Function)), None)

    def defined(self, name: str, *, within: ast.AST | None = None) -> Function | None:
        """The function `name` of the module, or the method of a class `within` it."""
        body: Sequence[ast.stmt] = getattr(within or self.tree, "body", ())
        return next((each for each in body if isinstance(each, Function) and each.name == name), None)

    def has(self, name: str) -> bool:
        """Whether a function or a constant of that name is the module's own."""
        return self.defined(name) is not None or self.value_of(name) is not None

    def value_of(self, name: str) -> ast.expr | None:
        """What a constant of the module is set to."""
        for each in self.tree.body:
            targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
            if isinstance(each, ast.Assign | ast.AnnAssign) and any(_names(target, name) for target in targets):
                return each.value
        return None


def _names(target: ast.AST | None, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name


@dataclass(frozen=True, eq=False)
class Source:
    """Several modules that import each other."""

    modules: Sequence[Module]

    @cached_property
    def by_name(self) -> Mapping[str, Module]:
        """The modules by their dotted names."""
        return {each.name: each for each in self.modules}

    @cached_property
    def calls(self) -> Mapping[Function, Sequence[tuple[ast.Call, Module]]]:
        """Where each function is called, as far as its name tells."""
        found = defaultdict(list)
        for module in self.modules:
            for node in walk(module.tree):
                if isinstance(node, ast.Call) and (called := self.called(node, module)) is not None:
                    found[called[0]].append((node, module))
        return found

    @cached_property
    def properties(self) -> Mapping[str, Sequence[tuple[Function, Module]]]:
        """The properties of all classes by their names."""
        found = defaultdict(list)
        for module in self.modules:
            for node in walk(module.tree):
                if isinstance(node, Function) and any(_names(each, "property") for each in node.decorator_list):
                    found[node.name].append((node, module))
        return found

    def module_of(self, name: str, module: Module) -> Module | None:
        """The module that a name of `module` stands for, where it was imported from its package."""
        return self.by_name.get(module.imported.get(name, ""))

    def called(self, call: ast.Call, module: Module) -> tuple[Function, Module] | None:
        """The function that a call is of: by name, imported, or a method of the same class; None for any other."""
        func = call.func
        if isinstance(func, ast.Name):
            return self._function(func.id, module, call)
        if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name):
            return None
        if func.value.id in {"self", "cls"}:
            classes = (each for each in module.around(call) if isinstance(each, ast.ClassDef))
            found = next((m for each in classes if (m := module.defined(func.attr, within=each))), None)
            return (found, module) if found else None
        other = self.module_of(func.value.id, module)
        found = other.defined(func.attr) if other else None
        return (found, other) if found and other else None

    def _function(self, name: str, module: Module, call: ast.Call) -> tuple[Function, Module] | None:
        for outer in module.around(call):  # one that is defined inside another
            if isinstance(outer, Function) and (found := module.defined(name, within=outer)):
                return found, module
        origin = self.origin(name, module)
        function = origin[0].defined(origin[1]) if origin else None
        return (function, origin[0]) if origin and function else None

    def origin(self, name: str, module: Module) -> tuple[Module, str] | None:
        """The module that has what `name` is in `module`, and its name there; also where others hand it on."""
        while not module.has(name):
            origin, _, name = module.imported.get(name, "").rpartition(".")
            if origin not in self.by_name:
                return None
            module = self.by_name[origin]
        return module, name


def returned(function: Function, module: Module) -> Iterator[ast.expr]:
    """What a function returns or yields; not None, and not what those inside it do."""
    for node in walk(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and module.function_of(node) is function:
            value = node.value
            if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
                yield value


@cache
def source() -> Source:
    """Every module of the agent and of the plugins, but generated code, the kit for tests and what verifies."""
    found = []
    for top in (ROOT / "hamlet_core", *sorted(ROOT.glob("plugins/*/src/*"))):
        for path in sorted(top.rglob("*.py")):
            inner = path.relative_to(top.parent)
            if "_gen" not in inner.parts and inner.parts[:3] != ("hamlet_core", "api", "testing"):
                name = ".".join(inner.with_suffix("").parts).removesuffix(".__init__")
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found.append(Module(top.name.replace("_", "-"), name, str(path.relative_to(ROOT)), tree))
    return Source(tuple(found))
