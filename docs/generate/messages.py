"""The errors of the source code, read without running it: the classes, and the sentences that they are raised with.

A sentence is known as far as it is written down: what is filled in when it is raised is shown as `…`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
OPEN = "…"
"""Stands for what is filled in."""
FINDING = "Finding"
"""Stands for the class of what `hamlet check` finds."""
REFUSAL = "refusal"
"""Stands for the reasons for which a peer's service is not taken."""
_ROOT_CLASS = "HamletError"
_ENDS = {"end": "StreamEnd", "abort": "StreamEnd", "Verdict": REFUSAL}
"""Calls that tell the other side something, and what kind of thing it is."""
_REFUSING = ("hamlet_core.imports.rules", "hamlet_core.imports.names", "hamlet_core.imports.table")
_WORD = re.compile(r"[a-z]{2,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorClass:
    """A class of errors: its `name`, what it derives from, its docstring, and the distribution that has it."""

    name: str
    parent: str
    doc: str
    distribution: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A sentence that a person may read, with the mend that stands beside it in the code (or an empty text)."""

    said_by: str
    text: str
    mend: str
    distribution: str


@dataclass(frozen=True, slots=True)
class _Module:
    distribution: str
    name: str
    tree: ast.Module = field(repr=False)


@cache
def _modules() -> tuple[_Module, ...]:
    """Every module of the agent and of the plugins, but generated code and the kit for tests."""
    trees = [ROOT / "hamlet_core", *sorted(ROOT.glob("plugins/*/src/*"))]
    found = []
    for top in trees:
        for path in sorted(top.rglob("*.py")):
            inner = path.relative_to(top.parent)
            if "_gen" not in inner.parts and inner.parts[:3] != ("hamlet_core", "api", "testing"):
                name = ".".join(inner.with_suffix("").parts).removesuffix(".__init__")
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found.append(_Module(top.name.replace("_", "-"), name, tree))
    return tuple(found)


@cache
def error_classes() -> Mapping[str, ErrorClass]:
    """`HamletError` and everything that derives from it, by name, parents first."""
    classes = [
        (node, module) for module in _modules() for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)
    ]
    found: dict[str, ErrorClass] = {}
    grown = True
    while grown:
        grown = False
        for node, module in classes:
            parents = [base.id for base in node.bases if isinstance(base, ast.Name)]
            parent = next((each for each in parents if each in found), "")
            if node.name not in found and (parent or node.name == _ROOT_CLASS):
                found[node.name] = ErrorClass(
                    name=node.name,
                    parent=parent,
                    doc=ast.get_docstring(node) or "",
                    distribution=module.distribution,
                    module=module.name,
                )
                grown = True
    return MappingProxyType(found)


@cache
def messages() -> tuple[Message, ...]:
    """The sentences of all errors and findings that say at least two words of their own, each once."""
    found: dict[Message, None] = {}
    for module in _modules():
        for scope in ast.walk(module.tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= dict.fromkeys(_messages_in(scope, module))
    return tuple(found)


def _messages_in(function: ast.FunctionDef | ast.AsyncFunctionDef, module: _Module) -> Iterator[Message]:
    for node in ast.walk(function):
        said_by, said, mend = "", None, None
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            keys = {each.arg: each.value for each in node.keywords}
            said = keys.get("message") or (node.args[-1] if node.args else None)
            mend = keys.get("mend")
            said_by = called if called in error_classes() or called == FINDING else _ENDS.get(called, "")
        elif module.name in _REFUSING and isinstance(node, ast.Return | ast.Yield):
            said_by, said = REFUSAL, node.value
        elif module.name in _REFUSING and isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            said_by, said = (REFUSAL, node.value) if "reason" in names else ("", None)
        text = " ".join(_text(said, function).split()) if said_by and said is not None else ""
        if len(_WORD.findall(text)) > 1:  # one word says nothing by which a sentence could be found
            way_out = _text(mend, function) if mend is not None else ""
            yield Message(
                said_by=said_by,
                text=text,
                mend=way_out if _WORD.search(way_out) else "",
                distribution=module.distribution,
            )


def _text(node: ast.expr, function: ast.AST) -> str:
    """What an expression says, as far as it is written down; a variable is looked up above it in the function."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part, function) if isinstance(part, ast.Constant) else OPEN for part in node.values
        ).replace(OPEN * 2, OPEN)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, function) + _text(node.right, function)
    if isinstance(node, ast.Name):
        assigned = [
            each
            for each in ast.walk(function)
            if isinstance(each, ast.Assign)
            and each.lineno < node.lineno
            and any(isinstance(target, ast.Name) and target.id == node.id for target in each.targets)
        ]
        if assigned:
            last = max(assigned, key=lambda each: each.lineno)
            return _text(last.value, function) if not isinstance(last.value, ast.Name) else OPEN
    return OPEN


@cache
def stream_codes() -> frozenset[str]:
    """The names of the gRPC codes that the code of streams and servers speaks of."""
    return frozenset(
        node.attr
        for module in _modules()
        if module.name.startswith(("hamlet_core.rpc", "hamlet_core.agent"))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute | ast.Name)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id) == "StatusCode"
    )
