from dataclasses import replace

import pytest
from scheduling import OPTIONS

from engines.schedule.prompt_budget import PromptBudget


def budget(*, least: int | None, most: int = 100, num_iters: int = 1) -> PromptBudget:
    return PromptBudget(
        replace(OPTIONS, num_tokens_per_iter=least, max_prefill_token_num=most, max_prefill_iters=num_iters)
    )


def test_without_a_number_of_tokens_a_step_takes_all_it_may() -> None:
    assert budget(least=None, num_iters=7).next(5000, num_decodes=50) == 100


def test_decodes_count_towards_the_tokens_of_a_step() -> None:
    assert budget(least=40, num_iters=1000).next(500, num_decodes=15) == 25


@pytest.mark.parametrize("num_iters, share", [(1, 90), (2, 45), (4, 23), (100, 10)])
def test_a_step_grows_so_that_a_prompt_needs_no_more_steps_than_allowed(num_iters: int, share: int) -> None:
    assert budget(least=10, num_iters=num_iters).next(90, num_decodes=0) == share


def test_no_step_exceeds_the_prefill_limit() -> None:
    assert budget(least=500, most=64).next(5000, num_decodes=0) == 64


def test_a_prompt_keeps_its_pace_while_its_rest_shrinks() -> None:
    pace = budget(least=1, num_iters=3)
    assert [pace.next(pending, num_decodes=0) for pending in (90, 60, 30, 3, 3, 3)] == [30, 30, 30, 20, 10, 1]


def test_prompts_move_even_where_decodes_take_the_whole_step() -> None:
    assert budget(least=8, num_iters=100).next(50, num_decodes=99) == 1


def test_beside_a_tile_of_decodes_prompts_fill_whole_tiles_and_go_on_in_the_next_step() -> None:
    whole = budget(least=None, most=1000)
    assert whole.next(290, num_decodes=256) == 255  # 511 rows and a free one
    assert whole.next(700, num_decodes=200) == 695
    assert whole.next(60, num_decodes=256) == 1000  # not a tile more: all of it
    assert whole.next(290, num_decodes=100) == 1000
