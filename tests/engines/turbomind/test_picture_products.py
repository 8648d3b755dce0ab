"""Numbers of rows at which a tower's products are asked for, between those of a few pictures."""

import math

import pytest

from engines.turbomind.ops.rows_cut import ROWS
from engines.turbomind.picture_products import row_counts


@pytest.mark.parametrize("seen", [{256, 1024, 3300, 16384}, {64, 252, 700}, {1000}])
def test_rows_are_all_multiples_that_were_seen_up_to_a_limit(seen: set[int]) -> None:
    step, counts = math.gcd(*seen), [*row_counts(seen, at_once=2000)]
    assert counts[0] == min(seen) and max(counts) <= max(seen)
    assert set(counts) >= set(range(min(seen), min(2000, max(seen)) + 1, step))


def test_above_the_limit_each_number_of_tiles_is_asked_for() -> None:
    tiles = {-(-count // ROWS) for count in row_counts({4, 30, 16384}, at_once=700)}
    assert tiles == set(range(1, 16384 // ROWS + 1))
