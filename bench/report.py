"""What the measurements came to, for a person and for a program."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.table import Table

from bench.measure import Row, Spread


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "uvloop": version("uvloop"),
    }


def table(rows: Sequence[Row]) -> Table:
    """Ratios, and the numbers they are made of."""
    shown = Table(title="ours beside bare grpc.aio: a ratio of 1 is as good, more is slower or larger")
    shown.add_column("benchmark")
    shown.add_column("case")
    for name in ("ours", "reference", "ratio (least to most)"):
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(
            row.benchmark,
            f"{row.case}\n[dim]{row.note}[/dim]" if row.note else row.case,
            f"{_number(row.ours.median)} {row.unit}",
            f"{_number(row.reference.median)} {row.unit}" if row.reference else "",
            _ratio(row.ratio) if row.ratio else "",
        )
    return shown


def _ratio(ratio: Spread) -> str:
    range_ = f" ({ratio.least:.2f} to {ratio.most:.2f})" if ratio.least != ratio.most else ""
    return f"{ratio.median:.2f}{range_}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
