"""Where the source builds metrics, read without running it: each one must be described, whatever it depends on.

The page is made of what a collector yields for one status document, which cannot reach every condition.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from hamlet_core.agent.metrics import METRICS

ROOT = Path(__file__).parents[2]
MODULE = "hamlet_core/agent/metrics.py"
HELPERS = ("_gauge", "_counter")
"""What builds every metric, with its description."""
_INSTRUMENTS = frozenset({"Counter", "Enum", "Gauge", "Histogram", "Info", "Summary"})
"""Classes of prometheus_client that register a metric by themselves."""


def faults() -> Iterator[str]:
    """Each place of the agent and of the plugins that may expose a metric without a description, and the mend."""
    for top in (ROOT / "hamlet_core", *sorted(ROOT.glob("plugins/*/src/*"))):
        for path in sorted(top.rglob("*.py")):
            code = path.read_text(encoding="utf-8")
            if "prometheus_client" in code:
                yield from faults_in(code, str(path.relative_to(ROOT)), METRICS)


def faults_in(code: str, name: str, described: Collection[str]) -> Iterator[str]:
    """The same for the module `name` of that `code`, when METRICS has the names `described`."""
    tree = ast.parse(code)
    helpers = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name in HELPERS]
    within = {id(node) for helper in helpers for node in ast.walk(helper)} if name == MODULE else set()
    for node in ast.walk(tree):
        place = f"{name}:{getattr(node, 'lineno', 0)}"
        if id(node) not in within and (built := _builds(node)):
            yield f"{place}: {built} is used outside {' and '.join(HELPERS)} of {MODULE}: build the metric with them"
        elif isinstance(node, ast.Call) and _name(node.func) in HELPERS and name == MODULE:
            pattern = _pattern(node.args[0]) if node.args else None
            if pattern is None:
                yield f"{place}: the name of this metric cannot be read: write it in the call, as a text or f-string"
            elif not any(re.fullmatch(pattern, each) for each in described):
                yield f"{place}: METRICS has no description of this metric: say there what it means"


def _builds(node: ast.AST) -> str:
    """The class of metrics that a node speaks of, or an empty text; `Metric` is harmless as an annotation."""
    if isinstance(node, ast.Call) and _name(node.func) == "Metric":
        return "Metric"
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client"):
        found = [each.name for each in node.names if each.asname or each.name in _INSTRUMENTS]
        return ", ".join(found)
    name = _name(node)
    return name if name.endswith("MetricFamily") or (name in _INSTRUMENTS and isinstance(node, ast.Attribute)) else ""


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _pattern(node: ast.expr) -> str | None:
    """What a name that is written as a text matches; whatever is filled into an f-string is one word or more."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            re.escape(part.value) if isinstance(part, ast.Constant) and isinstance(part.value, str) else r"\w+"
            for part in node.values
        )
    return None
