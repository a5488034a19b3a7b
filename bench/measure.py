"""From samples to what is reported: spreads, percentiles and ratios. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of several rounds, and how far apart they lay."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return Spread(median=median(values), least=min(values), most=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured quantity. `ratio` says how many times the reference ours is: 1 is as good, less is better.

    `reference` and `ratio` are None where nothing bare does the same work; `note` then says what to
    compare with.
    """

    benchmark: str
    case: str
    unit: str
    ours: Spread
    reference: Spread | None = None
    ratio: Spread | None = None
    note: str = ""

    def document(self) -> dict[str, Any]:
        """The row for `--json`."""
        return asdict(self)


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the least sample that `share` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def compared(
    benchmark: str, case: str, unit: str, ours: Sequence[float], reference: Sequence[float], note: str = ""
) -> Row:
    """A row whose ratio is taken round by round, so that what disturbed both sides of a round cancels out."""
    return Row(
        benchmark=benchmark,
        case=case,
        unit=unit,
        ours=Spread.of(ours),
        reference=Spread.of(reference),
        ratio=Spread.of([mine / bare for mine, bare in zip(ours, reference, strict=True)]),
        note=note,
    )


def alone(benchmark: str, case: str, unit: str, ours: Sequence[float], note: str = "") -> Row:
    """A row without a reference."""
    return Row(benchmark=benchmark, case=case, unit=unit, ours=Spread.of(ours), note=note)
