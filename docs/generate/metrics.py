"""docs/metrics.md, from the collector and its descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from docs.generate.families import faults
from docs.generate.notice import NOTICE
from hamlet_core.agent.metrics import METRICS, StatusCollector

METRICS_PAGE = """\
# Metrics

`GET /metrics` on `admin.http` (by default `127.0.0.1:8009`; loopback only, since it is not authenticated) answers in
the Prometheus text format. Beside it, `/healthz` is 200 as long as the process serves; `/readyz` is 200 once every
registry has reported, and 503 with the reason before that, or while another agent leads.
The numbers are those of `hamlet status`, taken when they
are asked for. A metric that has a label has a series per value that there is now: a peer that is taken out of the
configuration takes its series with it, and a task that never crashed has none.

The state metrics have one series per peer, with the state it is in now and the value 1:
`hamlet_peer_imports_state{peer="east",state="live"} 1`. [Operations](operations.md#alerts) has alert rules.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_IMPORTS: dict[str, Any] = {
    "state": "live", "offered": 0, "accepted": 0, "standing": 0, "pending": 0, "rejected": {}, "unlisted": 0,
    "held": {},
}  # fmt: skip
_SAMPLE: dict[str, Any] = {
    "ready": True,
    "coordinator": {"leading": True},
    "peers": [
        {
            "name": "east", "streams": [], "imports": _IMPORTS,
            "exports": {"state": "live", "offered": 0, "lag": 0, "rejected": {}, "retrying": 0},
        }
    ],
    "registries": [{"name": "local", "publishing": {"state": "live"}, "importing": {"state": "live"}}],
    "gateway": {"state": "live", "published": 0, "imported": 0, "refused": {}},
    "egress": None,
    "refused_callers": 0,
    "crashes": {"link east": 1},
}  # fmt: skip
"""A status document with one of everything, so that every metric has a series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """A metric as it is scraped."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def exposed() -> Iterator[Exposed]:
    """Every metric, in the order in which they are scraped."""
    found = []
    for family in StatusCollector(lambda: _SAMPLE, lambda: 0.0).collect():
        sample = family.samples[0]
        found.append(family.name)
        yield Exposed(name=sample.name, kind=family.type, labels=tuple(sample.labels), meaning=METRICS[family.name])
    if missing := METRICS.keys() - set(found):
        message = f"METRICS describes {', '.join(sorted(missing))}, without a series for the status document here:"
        message += " give _SAMPLE in docs/generate/metrics.py what it comes from, or take the description away"
        raise LookupError(message)


def metrics() -> str:
    """docs/metrics.md. Raises `LookupError` where the agent may expose a metric that it would lack."""
    if unseen := tuple(faults()):
        raise LookupError("\n".join(unseen))
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.meaning} |"
        for each in exposed()
    ]
    return f"{NOTICE}\n{METRICS_PAGE}" + "\n".join(rows) + "\n"
