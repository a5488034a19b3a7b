"""YAML text as plain data, with the line of every key. It knows no key by name and reads no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hamlet_core.config.problems import ConfigProblems, Problem, dotted
from hamlet_core.config.values import Loc

MAX_DEPTH = 32
MAX_VALUES = 200_000
"""More than a configuration holds; an alias of an alias of an alias reaches it within a few lines."""

_TAG = "tag:yaml.org,2002:"
_TEXT = frozenset({_TAG + "str", _TAG + "timestamp"})
_PLAIN = frozenset({_TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`data` is made of dict, list, str, int, float, bool and None; `lines` counts from 1."""

    data: object
    lines: Mapping[Loc, int] = field(repr=False)


def parse(text: str, name: str) -> Document:
    """Read one YAML document. `name` is what errors call the file.

    Times stay text (YAML 1.2 has none), keys are text always, `<<` merges. Raises `ConfigProblems` for
    what is no YAML, with line and column, and for keys given twice, foreign tags and runaway aliases.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        # The library's own message quotes the line, which may hold a secret; its `problem` does not.
        what = "; ".join(part for part in (error.problem, error.context) if part)
        # Within braces and brackets YAML takes the brace of a reference for one of its own.
        reference = mark is not None and text[mark.index - 1 : mark.index + 1] == "${"
        mend = 'put the reference in quotes: "${NAME}"' if reference else "check indentation and quotes"
        problem = Problem(where=place, key="", message=f"not YAML: {what}", mend=mend)
        raise ConfigProblems((problem,)) from None
    except YAMLError as error:
        what = str(getattr(error, "reason", "")) or "it cannot be read"
        problem = Problem(where=name, key="", message=f"not YAML: {what}", mend="write it as UTF-8 text")
        raise ConfigProblems((problem,)) from None
    if node is None:
        return Document(data=None, lines={(): 1})
    reader = _Reader(name, yaml.constructor)
    data = reader.value(node, ())
    if reader.problems:
        raise ConfigProblems(tuple(reader.problems))
    return Document(data=data, lines=reader.lines)


class _Reader:
    """Turns nodes into data, and remembers lines and problems on the way."""

    def __init__(self, name: str, constructor: SafeConstructor) -> None:
        self._name = name
        self._constructor = constructor
        self._values = 0
        self.lines: dict[Loc, int] = {(): 1}
        self.problems: list[Problem] = []

    def value(self, node: Node, loc: Loc) -> object:
        self._values += 1
        if self._runaway(node, loc, len(loc)):
            return None
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return {
                key: self._item(key_node, value, (*loc, key)) for key, key_node, value in self._entries(node, loc)
            }
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, item, (*loc, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag in _TEXT:
            return str(node.value)
        if isinstance(node, ScalarNode) and node.tag in _PLAIN:
            return self._scalar(node, loc)
        self._problem(
            node, loc, f"the tag {_short(node.tag)} is not taken here", "write plain text, numbers and lists"
        )
        return None

    def _scalar(self, node: ScalarNode, loc: Loc) -> object:
        try:
            value: object = self._constructor.construct_object(node)
        except ValueError:
            self._problem(node, loc, f"not a value of the tag {_short(node.tag)}", "put it in quotes")
            return None
        return value

    def _item(self, key: Node, node: Node, loc: Loc) -> object:
        self.lines.setdefault(loc, key.start_mark.line + 1)
        return self.value(node, loc)

    def _entries(self, node: MappingNode, loc: Loc, depth: int = 0) -> list[tuple[str, Node, Node]]:
        """The keys of a mapping with what `<<` brings in; its own keys win over those."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key_node, value in node.value:
            if key_node.tag == _TAG + "merge":
                for source in self._sources(value, loc, depth):
                    for key, source_key, source_value in self._entries(source, loc, depth + 1):
                        merged.setdefault(key, (source_key, source_value))
            elif not isinstance(key_node, ScalarNode):
                self._problem(key_node, loc, "a key must be text", "put it in quotes")
            elif (key := str(key_node.value)) in own:
                first = own[key][0].start_mark.line + 1
                self._problem(key_node, (*loc, key), f"given twice, first in line {first}", "remove one of them")
            else:
                own[key] = (key_node, value)
        return [(key, *pair) for key, pair in {**merged, **own}.items()]

    def _sources(self, value: Node, loc: Loc, depth: int) -> Iterator[MappingNode]:
        """The mappings that a `<<` merges: one, or a list of them."""
        for source in value.value if isinstance(value, SequenceNode) else [value]:
            self._values += 1
            if self._runaway(value, loc, depth):
                return
            if isinstance(source, MappingNode):
                yield source
            else:
                self._problem(value, loc, "`<<` merges mappings alone", "write for example <<: *defaults")

    def _runaway(self, node: Node, loc: Loc, depth: int) -> bool:
        """Whether aliases have made more of the file than a configuration is; it is reported once."""
        if self._values <= MAX_VALUES and depth <= MAX_DEPTH:
            return False
        if not any(problem.mend == _RUNAWAY for problem in self.problems):
            self._problem(node, loc[:2], "too many or too deeply nested values", _RUNAWAY)
        return True

    def _problem(self, node: Node, loc: Loc, message: str, mend: str) -> None:
        where = f"{self._name}:{node.start_mark.line + 1}"
        self.problems.append(Problem(where=where, key=dotted(loc), message=message, mend=mend))


_RUNAWAY = "do not let an alias (*name) contain itself"


def _short(tag: object) -> str:
    return str(tag).replace(_TAG, "!!")
