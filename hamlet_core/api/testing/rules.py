"""The rules of a contract, read from the docstrings of its hooks: they are written down there and nowhere else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from hamlet_core.api import RegistrySpec

_RULE = re.compile(r"^([A-Z]\d+)\. (.+(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_CHECK = re.compile(r"test_([a-z]\d+)_(\w+)(?:\[(.+)\])?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: its `number` (R1), the `hook` whose contract it belongs to, and its `text`, on one line."""

    number: str
    hook: str
    text: str


@cache
def rules_of(spec: type = RegistrySpec) -> Mapping[str, Rule]:
    """The rules of a spec by their number, in its order; each MUST of a docstring is under a number of its own."""
    found: dict[str, Rule] = {}
    for name, hook in vars(spec).items():
        for number, text in _RULE.findall(inspect.getdoc(hook) or "") if inspect.isfunction(hook) else ():
            found[number] = Rule(number=number, hook=name, text=" ".join(text.split()))
    return MappingProxyType(found)


def named(test: str) -> tuple[str, str]:
    """The rule and the sentence in the name of a check: `test_r1_first_comes` is (`R1`, `first comes`)."""
    match = _CHECK.search(test)
    if match is None:
        message = (
            f"the check {test!r} must be called test_<rule>_<what must hold>, for example test_r1_a_snapshot_first"
        )
        raise ValueError(message)
    rule, words, case = match.groups()
    return rule.upper(), words.replace("_", " ") + (f" ({case})" if case else "")
