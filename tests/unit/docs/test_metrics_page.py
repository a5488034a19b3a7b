"""docs/metrics.md lacks no metric, not even one that depends on what no status document of a test has."""

from __future__ import annotations

import importlib

import pytest

from docs.generate import PAGES
from docs.generate.families import MODULE, ROOT, faults, faults_in
from hamlet_core.agent.metrics import METRICS

metrics = importlib.import_module("docs.generate.metrics")  # the package has a function of that name
SOURCE = (ROOT / MODULE).read_text()
END = "\n\ndef _number("


def with_last(line: str) -> str:
    """The metrics module with one more line at the end of `collect`."""
    assert SOURCE.count(END) == 1
    return SOURCE.replace(END, f"        {line}\n{END}")


def test_every_metric_of_the_source_is_built_by_its_helpers_and_described() -> None:
    assert list(faults()) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            'if status.get("x"): yield GaugeMetricFamily("hamlet_x", "x", value=1)',
            "GaugeMetricFamily is used outside",
        ),
        ('if status.get("x"): yield Metric("hamlet_x", "x", "gauge")', "Metric is used outside"),
        (
            'if status.get("x"): yield core.SummaryMetricFamily("hamlet_x", "x")',
            "SummaryMetricFamily is used outside",
        ),
        ("family = CounterMetricFamily", "CounterMetricFamily is used outside"),
        ('if status.get("x"): yield _gauge("hamlet_x", [], [])', "METRICS has no description"),
        ('if status.get("x"): yield _counter(f"hamlet_x_{way}", [], [])', "METRICS has no description"),
        ('if status.get("x"): yield _gauge(status["x"], [], [])', "cannot be read"),
    ],
)
def test_a_metric_that_no_status_document_reaches_is_found_all_the_same(line: str, fault: str) -> None:
    code = with_last(line)
    (found,) = faults_in(code, MODULE, METRICS)
    number = code.splitlines().index(f"        {line}") + 1
    assert found.startswith(f"{MODULE}:{number}: ")
    assert fault in found


@pytest.mark.parametrize(
    "code",
    [
        "from prometheus_client import Counter\nCALLS = Counter('hamlet_calls', 'x')",
        "from prometheus_client.core import GaugeMetricFamily as Family\nFamily('hamlet_x', 'x')",
        "import prometheus_client\nCALLS = prometheus_client.Gauge('hamlet_calls', 'x')",
        "def _gauge(name):\n    return GaugeMetricFamily(name, 'x')  # of prometheus_client",
    ],
)
def test_no_other_module_builds_metrics(code: str) -> None:
    assert list(faults_in(code, "hamlet_core/agent/web.py", METRICS))


def test_such_a_metric_stops_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "faults", lambda: iter(["hamlet_core/agent/metrics.py:1: x"]))
    with pytest.raises(LookupError, match=r"agent/metrics\.py:1"):
        PAGES["metrics.md"]()


def test_a_description_without_a_metric_stops_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.METRICS, "hamlet_nothing", "Nothing.")
    with pytest.raises(LookupError, match="hamlet_nothing"):
        PAGES["metrics.md"]()
