"""Numbers of rows at which a tower's products are asked for, between those of a few pictures."""

import math

import pytest

from engines.turbomind.ops.rows_cut import ROWS
from engines.turbomind.picture_products import row_counts


@pytest.mark.parametrize("seen", [{256, 1024, 3300, 16384}, {64, 252, 700}, {1000}, {30, 90, 2100}])
def test_rows_are_multiples_of_what_was_seen_on_both_sides_of_full_tiles(seen: set[int]) -> None:
    step, counts = math.gcd(*seen), {*row_counts(seen, at_once=2000)}
    possible = range(min(seen), max(seen) + 1, step)
    assert counts <= set(possible)
    assert counts >= {count for count in possible if count <= 640}
    between = {-(-count // 16) for count in possible if count <= 2000}
    assert {-(-count // 16) for count in counts if count <= 2000} == between


def test_above_the_limit_each_number_of_tiles_is_asked_for() -> None:
    tiles = {-(-count // ROWS) for count in row_counts({4, 30, 16384}, at_once=700)}
    assert tiles == set(range(1, 16384 // ROWS + 1))
