"""Which calls of the source code say something to a person, as what, and by which argument."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from docs.generate.classes import BUILT_IN, arguments_of, exceptions
from docs.generate.source import Module

FINDING = "Finding"
"""The class of what `hamlet check` finds."""
REFUSAL = "refusal"
"""Stands for the reasons for which a peer's service is not taken."""
OUTCOME = "Outcome"
"""The class of what became of an import that an adapter was to write."""
PROBLEM = "Problem"
"""Stands for what is wrong with a value of a file, or with something that is published: shown with its place."""
UNAVAILABLE = "Unavailable"
"""Stands for the errors of registries, gateways and coordinators that do not answer, where they are told alike."""
_USAGE = "UsageError"
"""Stands for what is wrong with a command line."""


@dataclass(frozen=True, slots=True)
class Sayer:
    """How a call says something: as what, by which argument, whether that is a collection of pairs, or a part."""

    said_by: str
    keyword: str = "message"
    position: int = 0
    pairs: bool = False
    part: bool = False

    def said(self, call: ast.Call) -> ast.expr | None:
        """What it says."""
        return _given(call, self.keyword, self.position)

    def mend(self, call: ast.Call) -> ast.expr | None:
        """What it says to do."""
        return _given(call, "mend", self.position + 1)


def _given(call: ast.Call, keyword: str, position: int) -> ast.expr | None:
    by_name = next((each.value for each in call.keywords if each.arg == keyword), None)
    return by_name or (call.args[position] if len(call.args) > position else None)


_NAMED = {
    FINDING: Sayer(FINDING, position=2),
    OUTCOME: Sayer(OUTCOME, "reason", 2),
    PROBLEM: Sayer(PROBLEM, position=9),
    "problem": Sayer(PROBLEM, position=1),
    "Inconsistent": Sayer(PROBLEM, "problems", pairs=True),
    "PydanticCustomError": Sayer(PROBLEM, "message_template", 1),
    "Verdict": Sayer(REFUSAL, "reason", 1),
    "Found": Sayer("AdapterError", "problem", 4),
    "_Misfit": Sayer("AdapterError", "said", part=True),
    "_unavailable": Sayer(UNAVAILABLE),
    "BadParameter": Sayer(_USAGE),
    "ClickException": Sayer(_USAGE),
    _USAGE: Sayer(_USAGE),
}
"""Calls that say something and are no constructors of errors with a message of their own."""
_OF_MODULES = {("hamlet_core.publish.publication", PROBLEM): Sayer(PROBLEM, "reason", 2)}
"""Of several classes of one name, those that are made otherwise."""
_END_OF_STREAM = Sayer("StreamEnd", "reason", 1)
"""Any method that is given a code of streams and a text."""
_NOTHING = frozenset({"ConfigProblems", "Malformed"})
"""Errors that are made of problems, each of which is read where it is made."""


def sayer_of(call: ast.Call, module: Module) -> Sayer | None:
    """How a call says something, as far as its name tells; None for one that says nothing to a person."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "TypeError" and not module.name.startswith("hamlet_core.plugins"):
        return None  # a fault of Hamlet itself
    return _END_OF_STREAM if _ends_a_stream(call) else _OF_MODULES.get((module.name, name), _sayers().get(name))


def _ends_a_stream(call: ast.Call) -> bool:
    first = call.args[0] if isinstance(call.func, ast.Attribute) and len(call.args) == 2 else None
    if isinstance(first, ast.Attribute):
        return first.attr == "code" or ast.unparse(first.value).endswith("StatusCode")
    return isinstance(first, ast.Name) and first.id == "code"


@cache
def _sayers() -> Mapping[str, Sayer]:
    """By the name of what is called; a constructor's argument is the one that its class calls a message or reason."""
    made = {name: Sayer(name) for name in BUILT_IN}
    for name in exceptions():
        arguments = arguments_of(name)
        keyword = next((each for each in ("message", "reason") if each in arguments), "message")
        made[name] = Sayer(name, keyword, arguments.index(keyword) if keyword in arguments else 0)
    return MappingProxyType({name: each for name, each in (made | _NAMED).items() if name not in _NOTHING})
