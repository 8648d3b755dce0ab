"""Which points nothing beats, against brute force."""

import random
from dataclasses import replace

from sweep_results import done, left

from deployer.sweeps.pareto import front

TWO = ["tokens_per_s", "ttft_p99_ms"]


def test_more_of_one_and_less_of_the_other_is_better() -> None:
    points = [
        done(1, tokens_per_s=100, ttft_p99_ms=10),
        done(2, tokens_per_s=200, ttft_p99_ms=20),
        done(3, tokens_per_s=150, ttft_p99_ms=20),
        done(4, tokens_per_s=200, ttft_p99_ms=20),
        left(5),
    ]
    assert front(points, TWO) == [1, 2, 4], "equals stay, 3 is beaten by 2"
    assert front(points, ["tokens_per_s"]) == [2, 4]
    assert front([*points, replace(points[1], number=6, same_as=2)], TWO) == [1, 2, 4]


def test_a_front_is_what_no_other_point_dominates() -> None:
    draw = random.Random(0)
    for _ in range(50):
        points = [done(i, tokens_per_s=draw.randint(0, 5), ttft_p99_ms=draw.randint(0, 5)) for i in range(12)]
        pairs = {p.number: (p.figures["tokens_per_s"], p.figures["ttft_p99_ms"]) for p in points}
        expected = [
            number
            for number, (rate, time) in pairs.items()
            if not any(r >= rate and t <= time and (r, t) != (rate, time) for r, t in pairs.values())
        ]
        assert front(points, TWO) == expected
