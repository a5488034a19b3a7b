"""docs/hooks.md, from the specs: each hook with its signature, its contract, the checks of the kit; the types."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ForwardRef, cast

import hamlet_core.api
from docs.generate.notice import NOTICE
from docs.generate.surface import SPECS, alias, hooks_of, literal, signature, suites
from hamlet_core.api.testing.rules import named

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

HEAD = """\
# Hooks

The contract between the core and a plugin, written from the docstrings of `hamlet_core.api`. [Writing an
adapter](writing-an-adapter.md) goes through it step by step; [Public API](api.md) says what of it is stable.

## How hooks are called

A plugin is a distribution with an entry point in the group `hamlet`. The entry point's name is the adapter's
`kind`, or the name by which `plugins:` lists it; what it leads to, a module usually, implements hooks of
`AgentSpec`. The object that an adapter type's `open` returns implements the hooks of `RegistrySpec`, `GatewaySpec`
or `CoordinatorSpec`. Implementations carry `@hookimpl`, take their arguments by name, and have no default
arguments: [pluggy](https://pluggy.readthedocs.io) would never pass the value. A name that is no hook,
or has arguments that the hook has not, is refused: of the module when the plugin is loaded, of the object when the
adapter is opened, which `hamlet config check` does too.

Hooks are synchronous and may block: the core calls the watch on one thread and everything else on others, one
write at a time, each call within 60 s. No asyncio is needed, and no lock beyond what the adapter shares between
its watch and its writes. `Stop` has callbacks as well as a flag: register the one that closes the socket you wait
on.

What an implementation raises says what the core does:

| raise | when | the core |
|---|---|---|
| `RegistryUnavailable`, `GatewayUnavailable` | it is gone, slow, or refuses us | keeps what it knows, calls again |
| `CoordinatorUnavailable` | who leads cannot be known | does not lead, calls again |
| `AdapterError` | trying again will not help | as above, and shows it |
| `ConfigError` | from `open`: options contradict each other | does not start, and names the place in hamlet.yaml |
| anything else | a fault of the adapter's | takes it for an `AdapterError`; the log has its traceback, once |

It calls again after 1 s, and waits longer each time, up to 60 s. One change that fails is no exception but an
outcome: `REJECTED` when it can never be applied, `RETRY` when it may be later, each with a `reason` that a person
understands. A peer is told the reason.

**Wrappers.** A plugin may stand around other adapters: an audit, a dry run, a rate limit.
`hamlet_wrappers(adapter)` returns an object whose hooks are `@hookimpl(wrapper=True)`, and hamlet.yaml names the
plugin under `plugins`. A watch is a generator, so a wrapper of `registry_watch` sees its start alone;
`registry_observed` shows every batch.

**Rules.** A rule has a number and says MUST. Beside each stand the checks of `hamlet_core.api.testing` that test
it; a plugin's tests run them on the real backend.
"""

TYPES = """\
## Types

What the hooks take and return. All of it is plain data, frozen, and given by keyword unless shown otherwise.
"""

_RULE = re.compile(r"([A-Z]\d+)\. ")


def hooks() -> str:
    """docs/hooks.md."""
    page = [NOTICE, HEAD]
    for spec in SPECS:
        page += [f"## {spec.__name__}\n", f"{inspect.getdoc(spec)}\n"]
        for name, hook in hooks_of(spec).items():
            page += [
                f"### {name}\n",
                f"```text\n{signature(name, hook)}\n```\n",
                *_contract(inspect.getdoc(hook) or ""),
            ]
    page += [TYPES, *_types()]
    return "\n".join(page).rstrip("\n") + "\n"


def checks_of(rule: str) -> list[str]:
    """What the kit checks for a rule, each as a sentence; suites that plugins subclass, all of them."""
    sentences: dict[str, None] = {}
    for suite in suites():
        for check in (each for each in dir(suite) if each.startswith("test_")):
            number, sentence = named(check)
            if number == rule:
                sentences[sentence] = None
    return list(sentences)


def _contract(doc: str) -> Iterator[str]:
    """A docstring as Markdown: its prose as it is, each rule as an item with its checks below it."""
    for line in _joined(doc):
        rule = _RULE.match(line)
        if rule is None:
            yield f"{line}\n"
            continue
        yield f"- **{rule[1]}.** {line[rule.end() :]}"
        yield from (f"    - *check:* {sentence}" for sentence in checks_of(rule[1]))
        yield ""


def _joined(doc: str) -> Iterator[str]:
    """The paragraphs and rules of a docstring, each on one line."""
    current: list[str] = []
    ruled = False
    for line in doc.splitlines():
        begins = bool(_RULE.match(line))
        if begins or not line.strip() or (ruled and not line.startswith(" ")):
            if current:
                yield " ".join(current)
            current, ruled = [], begins
        if line.strip():
            current.append(line.strip())
    if current:
        yield " ".join(current)


@cache
def aliases() -> dict[str, str]:
    """The names in `hamlet_core.api` that are neither class nor function: what stands below each of them."""
    found: dict[str, str] = {}
    for path in sorted(Path(hamlet_core.api.__path__[0]).glob("*.py")):
        for statement, below in itertools.pairwise(ast.parse(path.read_text(encoding="utf-8")).body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                text = " ".join(str(below.value.value).split())
                found |= {target.id: text for target in targets if isinstance(target, ast.Name)}
    return found


def _types() -> Iterator[str]:
    for name in hamlet_core.api.__all__:
        value = getattr(hamlet_core.api, name)
        doc = inspect.getdoc(value) or ""
        if not inspect.isclass(value) and not inspect.isfunction(value) and name in aliases():
            yield f"### {name}\n"
            yield f"`{alias(value)}`. {aliases()[name]}\n"
        if not inspect.isclass(value) or value in SPECS or issubclass(value, Exception):
            continue
        if dataclasses.is_dataclass(value) or issubclass(value, Enum | tuple):
            yield f"### {name}\n"
            yield "\n".join(textwrap.dedent(doc).splitlines()) + "\n"
            yield from _members(value)


def _members(value: type) -> Iterator[str]:
    if issubclass(value, Enum):
        yield f"One of {', '.join(f'`{member.value}`' for member in value)}.\n"
        return
    if issubclass(value, tuple):
        rows = [
            f"| `{name}` | `{kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind}` | required |"
            for name, kind in inspect.get_annotations(value).items()
        ]
    else:
        every = dataclasses.fields(cast("type[DataclassInstance]", value))
        fields = [each for each in every if not each.name.startswith("_")]
        rows = [f"| `{each.name}` | `{_shown(each.type)}` | {_default(each)} |" for each in fields]
    yield "\n".join(["| field | type | default |", "|---|---|---|", *rows]) + "\n"


def _shown(kind: object) -> str:
    return str(kind).replace("|", "\\|")


def _default(each: dataclasses.Field[object]) -> str:
    if each.default is not dataclasses.MISSING:
        return f"`{literal(each.default)}`"
    return f"`{each.default_factory()!r}`" if each.default_factory is not dataclasses.MISSING else "required"


def documented() -> frozenset[str]:
    """The names of all rules in the specs."""
    return frozenset(
        rule
        for spec in SPECS
        for hook in hooks_of(spec).values()
        for rule in re.findall(r"^([A-Z]\d+)\. ", inspect.getdoc(hook) or "", re.MULTILINE)
    )
