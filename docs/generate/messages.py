"""The sentences of the source code for its errors, read without running it.

A sentence is known as far as it is written down: what is filled in when it is raised is shown as `…`. One without any
words is a fault of the source, since nobody could look it up; `PASSED_ON` has those that are another's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from docs.generate.classes import BUILT_IN, exceptions
from docs.generate.following import together
from docs.generate.passed_on import PASSED_ON
from docs.generate.reading import OPEN, PASSED, Form, Reader, words
from docs.generate.sayers import PROBLEM, REFUSAL, sayer_of
from docs.generate.source import Module, Source, source, walk

_REFUSING = ("hamlet_core.imports.rules", "hamlet_core.imports.names", "hamlet_core.imports.table")
"""Modules whose functions return such a reason, or yield it; what else they return has no two words."""
_WORDING = "in_words"
"""The function that returns what is wrong with a value, and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A sentence that a person may read, with the mend that stands beside it in the code (or an empty text).

    A `part` of one stands in sentences where `…` is, as one of many.
    """

    said_by: str
    text: str
    mend: str
    distribution: str
    module: str
    part: bool = False


Place = tuple[str, str]
"""A file, and an expression in it, as `ast.unparse` writes it."""


@cache
def messages() -> tuple[Message, ...]:
    """The sentences of all errors and findings, each once. Raises `LookupError` where one cannot be read."""
    found, faults = read(source())
    passed_on = {(file, text) for file, texts in PASSED_ON.items() for text in texts}
    unread = [fault for place, fault in faults.items() if place not in passed_on]
    unread += [
        f"docs/generate/passed_on.py names {text} of {file}, where no words are passed on: take it out"
        for file, text in sorted(passed_on - faults.keys())
    ]
    if unread:
        raise LookupError("\n".join(unread))
    return found


def read(modules: Source) -> tuple[tuple[Message, ...], Mapping[Place, str]]:
    """The sentences, and the places where one has no words that can be read, each with what is wrong and the mend."""
    reader = Reader(modules, frozenset({*exceptions(), "BaseException", "ValidationError", *BUILT_IN}))
    found: dict[Message, None] = {}
    faults: dict[Place, str] = {}
    for module in modules.modules:
        for said in _all_said(module, reader):
            found |= dict.fromkeys(_messages(said, module))
            for form in said.forms if said.must_be_read else ():
                if not words(form.text) and PASSED not in form.text:
                    node, where = form.origin or (said.node, module)
                    expression = ast.unparse(node)
                    faults[where.file, expression] = (
                        f"{where.file}:{node.lineno}: no words can be read from {expression}, which is what"
                        f" {said.said_by} says in {module.file}:{said.node.lineno}: write them as a text in the call,"
                        " or in a variable that is set above it"
                    )
    return tuple(found), faults


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a node of the source says, in which forms, with which mends, and the parts that are too many to show."""

    said_by: str
    node: ast.expr
    forms: tuple[Form, ...]
    mends: tuple[Form, ...] = ()
    parts: tuple[Form, ...] = ()
    part: bool = False
    must_be_read: bool = True


def _all_said(module: Module, reader: Reader) -> Iterator[_Said]:
    if (function := module.defined(_WORDING)) is not None:
        for node, forms, mends in reader.pairs(function, module):
            yield _Said(said_by=PROBLEM, node=node, forms=forms, mends=mends, must_be_read=False)
    for each in walk(module.tree):
        if isinstance(each, ast.Call):
            yield from _said(each, module, reader)
        elif module.name in _REFUSING and isinstance(each, ast.Return | ast.Yield) and each.value is not None:
            forms = tuple(form for form in reader.forms(each.value, module) if words(form.text) > 1)
            yield _Said(said_by=REFUSAL, node=each.value, forms=forms, parts=reader.taken_apart())


def _said(call: ast.Call, module: Module, reader: Reader) -> Iterator[_Said]:
    sayer = sayer_of(call, module)
    said = sayer.said(call) if sayer is not None else None
    if sayer is None or said is None or reader.source.called(call, module) is not None:
        return  # a function of such a name is read itself
    forms = reader.second_of_each(said, module) if sayer.pairs else reader.forms(said, module)
    parts = reader.taken_apart()
    mend = sayer.mend(call)
    yield _Said(
        said_by=sayer.said_by,
        node=said,
        forms=tuple(each for each in forms if each.text) if forms else (Form(OPEN),),
        mends=reader.forms(mend, module) if mend is not None else (),
        parts=parts,
        part=sayer.part,
    )
    reader.taken_apart()  # of mends nobody looks for a part


def _messages(said: _Said, module: Module) -> Iterator[Message]:
    for form, part in (*((each, said.part) for each in said.forms), *((each, True) for each in said.parts)):
        fitting = [each.text for each in said.mends if together(form.choices, each.choices) is not None]
        if words(form.text):
            yield Message(
                said_by=said.said_by,
                text=_shown(form.text),
                mend="" if form in said.parts else _listed(fitting),
                distribution=module.distribution,
                module=module.name,
                part=part,
            )


def _listed(mends: Iterable[str]) -> str:
    return _shown("; or ".join(dict.fromkeys(each for each in mends if words(each))))


def _shown(text: str) -> str:
    """A text as people read it: several things in a row that are filled in are one."""
    text = re.sub(f"{OPEN}( {OPEN})+", OPEN, text.replace(PASSED, OPEN))
    return re.sub(f"(: {OPEN}){{2,}}", f": {OPEN}", re.sub(f"({OPEN}: ){{2,}}", f"{OPEN}: ", text))


@cache
def stream_codes() -> frozenset[str]:
    """The names of the gRPC codes that the code of streams and servers speaks of."""
    return frozenset(
        node.attr
        for module in source().modules
        if module.name.startswith(("hamlet_core.rpc", "hamlet_core.agent"))
        for node in walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute | ast.Name)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id) == "StatusCode"
    )
