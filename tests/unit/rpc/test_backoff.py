import random

import pytest

from hamlet_core import backoff


@pytest.mark.parametrize(
    ("attempt", "cap", "least", "most"),
    [
        (0, 60, 1, 2),
        (1, 60, 2, 4),
        (3, 60, 8, 16),
        (10, 60, 30, 60),
        (10_000, 60, 30, 60),
        (0, 1, 1, 1),
        (9, 1, 1, 1),
    ],
)
def test_delays_double_up_to_the_cap_and_are_spread_from_the_first_one_on(attempt, cap, least, most):
    rng = random.Random(1)
    delays = [backoff.delay(attempt, cap, rng=rng) for _ in range(500)]
    assert all(least <= delay <= most for delay in delays)
    assert least == most or len(set(delays)) > 400, "peers that lost a mesh together do not come back together"
