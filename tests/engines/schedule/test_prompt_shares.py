"""What each prompt of a step may compute."""

from sequences import sequence

from engines.schedule.prompt_shares import PromptShares
from engines.schedule.tile_budget import TileBudget


def test_prompts_ask_by_rank_for_what_is_kept_for_them_and_what_is_left() -> None:
    first, second, third = sequence([1] * 10), sequence([2] * 10), sequence([3] * 10)
    shares = PromptShares(
        14, kept={second.arrival: 4, third.arrival: 3}, tiles=TileBudget(None, num_decodes=0)
    )
    asked = []
    for one in (first, second, third):
        asked.append(shares.next(one))
        shares.take(asked[-1])
    assert asked == [7, 4, 3]


def test_what_a_prompt_cannot_compute_is_for_those_behind_it() -> None:
    first, second = sequence([1] * 10), sequence([2] * 10)
    shares = PromptShares(8, kept={first.arrival: 5}, tiles=TileBudget(None, num_decodes=0))
    assert shares.next(first) == 8
    shares.take(2)  # there were no more pages
    assert shares.next(second) == 6
