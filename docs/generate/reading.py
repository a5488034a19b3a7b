"""What an expression says, read from the source: each form of a text, as far as it is written down.

A variable is followed to what it was set to, a parameter to the calls of its function, a call to what the function
returns or yields. What is filled in is `…`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

from docs.generate.following import ELSEWHERE, NONE, At, Choices, Follower, called, together
from docs.generate.source import Function, Module, Source, returned

OPEN = "…"
"""Stands for what is filled in."""
PASSED = "\ue000"
"""Stands for the words of another error, which are passed on: they are read where that one is made."""
FORMS = 24
"""A text has no more forms than this by several parts that each have some; what makes them more is then `…`."""
_VARIANTS, _LONGEST = 3, 120
"""What is filled in is shown in its place up to so many variants, and characters; else it is told apart."""
_DEPTH = 12
_WORD = re.compile(r"\S*[a-z]{2}\S*", re.IGNORECASE)
_FIELD = re.compile(r"(?<!\{)\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a text, what was chosen on the way to it, and the expression that has it."""

    text: str
    choices: Choices = NONE
    origin: tuple[ast.expr, Module] | None = None


def words(text: str) -> int:
    """How many words a text has of its own."""
    return len(_WORD.findall(text.replace(OPEN, " ").replace(PASSED, " ")))


@dataclass(frozen=True)
class Reader:
    """Reads expressions of a source; `errors` are the names of the classes of errors there.

    `apart` gets the phrases that sentences have in them and that are too many to show there; see `taken_apart`.
    """

    source: Source
    errors: frozenset[str] = frozenset()
    apart: dict[str, None] = field(default_factory=dict)

    @cached_property
    def _follower(self) -> Follower:
        return Follower(self.source)

    def forms(self, node: ast.expr, module: Module) -> tuple[Form, ...]:
        """The forms of a text in the order in which they stand; `OPEN` and `PASSED` for what is not written there."""
        found = self._read(At(node, module), _DEPTH)
        return tuple(dict.fromkeys(replace(each, text=" ".join(each.text.split())) for each in found))

    def second_of_each(self, node: ast.expr, module: Module) -> tuple[Form, ...]:
        """The forms of the second part of every pair that an expression has in it."""
        seconds = (
            second
            for item in self._follower.items(At(node, module), _DEPTH)
            for second in self._follower.element(item, 1, _DEPTH)
        )
        return tuple(dict.fromkeys(form for second in seconds for form in self._read(second, _DEPTH)))

    def pairs(
        self, function: Function, module: Module
    ) -> Iterator[tuple[ast.expr, tuple[Form, ...], tuple[Form, ...]]]:
        """Each pair of texts that a function returns: where it is, the forms of the first and of the second."""
        for value in returned(function, module):
            if isinstance(value, ast.Tuple) and len(value.elts) == 2:
                yield value, self.forms(value.elts[0], module), self.forms(value.elts[1], module)

    def taken_apart(self) -> tuple[Form, ...]:
        """The phrases of what was read last that were too many to show in their places."""
        found = tuple(map(Form, self.apart))
        self.apart.clear()
        return found

    def _read(self, at: At, depth: int) -> list[Form]:
        found = self._written(at, depth)
        return [each if each.origin else replace(each, origin=(at.node, at.module)) for each in found]

    def _written(self, at: At, depth: int) -> list[Form]:
        node = at.node
        if isinstance(node, ast.Constant):
            return [Form(node.value if isinstance(node.value, str) else OPEN, at.choices)]
        if isinstance(node, ast.JoinedStr):
            return _joined(self._parts(at, node, depth)) or [Form(OPEN, at.choices)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = map(at.beside, (node.left, node.right))
            return _joined([self._read(side, depth) for side in sides]) or [Form(OPEN, at.choices)]
        if isinstance(node, ast.Name) and (_is_handled(at) or self._is_error(node, at.module)):
            return [Form(PASSED, at.choices)]
        if isinstance(node, ast.Call):
            return self._called(at, node, depth)
        return self._followed(at, depth) or [Form(OPEN, at.choices)]

    def _followed(self, at: At, depth: int) -> list[Form]:
        sources = self._follower.sources(at, depth) if depth else ()
        return [form for each in sources for form in self._read(each, depth - 1)]

    def _called(self, at: At, call: ast.Call, depth: int) -> list[Form]:
        """The forms of a call's result. Of which call a function's parameters are read matters within it alone."""
        name = called(call)
        if name in ELSEWHERE:
            return [Form(PASSED, at.choices)]
        found = self._followed(at, depth)
        function = self.source.called(call, at.module)
        if function is not None and function[0] not in dict(at.choices):
            found = [_without(each, function[0]) for each in found]
        if name == "str" and not any(each.text not in {OPEN, PASSED, ""} for each in found):
            return [Form(PASSED, at.choices)]  # an error's, or what stands in an error's place
        if name == "format":
            return [replace(each, text=_FIELD.sub(OPEN, each.text)) for each in found]
        return found or [Form(OPEN, at.choices)]

    def _parts(self, at: At, node: ast.JoinedStr, depth: int) -> list[list[Form]]:
        """The forms of each part of an f-string."""
        constants = [str(part.value) if isinstance(part, ast.Constant) else OPEN for part in node.values]
        alone = not words("".join(constants))
        parts = []
        for number, part in enumerate(node.values):
            if not isinstance(part, ast.FormattedValue):
                parts.append(self._read(at.beside(part), depth))
                continue
            found = []
            if part.conversion == -1 and part.format_spec is None:
                leading = not words("".join(constants[:number]))
                found = self._phrases(self._read(at.beside(part.value), depth - 1), alone=alone, leading=leading)
            parts.append(found or [Form(OPEN, at.choices)])
        return parts

    def _phrases(self, found: Sequence[Form], *, alone: bool, leading: bool) -> list[Form]:
        """What is filled in between texts that say nothing by themselves (`alone`), or beside one that does.

        Beside one it is shown where it is a phrase in any case and has few forms; in front of it (`leading`) stands
        what the sentence is about, which is not told apart.
        """
        found = [each for each in found if each.text]
        phrases = [each for each in found if words(each.text) > 1]
        if alone:
            others = [each for each in found if each not in phrases]
            return [
                *phrases,
                *(Form(PASSED if PASSED in each.text else OPEN, each.choices) for each in others),
            ]
        few = len({each.text for each in phrases}) <= _VARIANTS and all(
            len(each.text) <= _LONGEST for each in phrases
        )
        if phrases and len(phrases) == len(found) and few:
            return phrases
        if not leading:
            self.apart.update(dict.fromkeys(each.text for each in phrases if words(each.text) > 2))
        return []

    def _is_error(self, name: ast.Name, module: Module) -> bool:
        """Whether a parameter is said to be an error."""
        function = module.function_of(name)
        given = (*function.args.args, *function.args.kwonlyargs) if function else ()
        annotation = next((each.annotation for each in given if each.arg == name.id), None)
        return isinstance(annotation, ast.Name) and annotation.id in self.errors


def _is_handled(at: At) -> bool:
    """Whether it is the name of an error that was caught here."""
    name = getattr(at.node, "id", "")
    return any(isinstance(each, ast.ExceptHandler) and each.name == name for each in at.module.around(at.node))


def _without(form: Form, place: object) -> Form:
    return replace(form, choices=frozenset(each for each in form.choices if each[0] is not place))


def _joined(parts: Sequence[Sequence[Form]]) -> list[Form]:
    """The parts of a text after each other, in each combination that is possible; not more than `FORMS`."""

    def add(before: list[Form], part: Sequence[Form]) -> list[Form]:
        if len(before) > 1 and len(before) * len(part) > FORMS:
            part = [Form(OPEN)]
        pairs = ((one, other, together(one.choices, other.choices)) for one in before for other in part)
        return [Form(one.text + other.text, both) for one, other, both in pairs if both is not None]

    return [Form(re.sub(f"{OPEN}+", OPEN, each.text), each.choices) for each in reduce(add, parts, [Form("")])]
