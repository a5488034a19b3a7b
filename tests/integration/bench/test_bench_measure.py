"""How samples become what is reported."""

from __future__ import annotations

import pytest

from bench.measure import Spread, compared, percentile


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 1.0, 100),
        ([1, 2], 0, 1),
    ],
)
def test_a_percentile_is_a_sample_that_was_measured(samples, share, expected):
    assert percentile(samples, share) == expected


def test_ratios_are_taken_round_by_round_so_that_a_disturbed_round_counts_once():
    row = compared("sync", "case", "s", ours=[2.0, 20.0, 3.0], reference=[1.0, 10.0, 1.0])
    assert row.ratio == Spread(median=2.0, least=2.0, most=3.0)


def test_rounds_without_their_reference_are_refused():
    with pytest.raises(ValueError, match="zip"):
        compared("sync", "case", "s", ours=[1.0, 2.0], reference=[1.0])
