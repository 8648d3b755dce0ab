"""What a step with tokens of grammars takes longer, and for how long none is asked where they bring less."""

import pytest

from engines.schedule.grammar_pace import (
    AT_FIRST,
    FIRST_REST,
    LONGEST_REST,
    PURSE,
    GrammarPace,
    StepPrices,
)


def rests_after_loss(pace: GrammarPace) -> int:
    """Lose until no grammar is asked; return for how many steps."""
    while not pace.is_resting:
        pace.learn(4, num_asked=4, proposed=0, right=0)
    steps = 0
    while pace.is_resting:
        pace.pass_by()
        steps += 1
    return steps


def test_a_wait_is_priced_in_steps_of_the_engine_and_by_all_that_wait() -> None:
    small, large, alone = (StepPrices(step_us=us) for us in (600.0, 6000.0, None))
    rows = 8 * StepPrices.ROW
    eight = {"num_asked": 2, "num_tokens": 8}
    assert small.of(4, **eight) - rows == pytest.approx(10 * (large.of(4, **eight) - rows))
    assert large.of(8, **eight) > large.of(4, **eight) > large.of(4, num_asked=1, num_tokens=8)
    assert large.of(4, **eight) > large.of(4, num_asked=2, num_tokens=4)
    assert alone.of(64, **eight) == pytest.approx(rows)


@pytest.mark.parametrize(("step_us", "most"), [(600.0, 4), (3000.0, 12), (None, 60)])
def test_grammars_pay_up_to_so_many_sequences_of_which_all_follow_one(
    step_us: float | None, most: int
) -> None:
    pace = GrammarPace(StepPrices(step_us=step_us))
    pays = [pace.pays(num, num_asked=num, num_tokens=min(8 * num, 64 - num)) for num in range(1, 64)]
    assert all(pays[:most]) and pays == sorted(pays, reverse=True)


def test_who_loses_rests_for_longer_each_time_and_only_at_first_where_it_gains_again() -> None:
    pace = GrammarPace(StepPrices(step_us=1000.0))
    rests = [rests_after_loss(pace) for _ in range(8)]
    assert rests == [min(FIRST_REST << turn, LONGEST_REST) for turn in range(8)]
    for _ in range(10):
        pace.learn(4, num_asked=4, proposed=12, right=12)
    assert rests_after_loss(pace) == FIRST_REST


def test_a_purse_bounds_what_is_lost_between_two_rests() -> None:
    prices = StepPrices(step_us=1000.0)
    pace = GrammarPace(prices)
    price = prices.of(1, num_asked=1, num_tokens=4)
    steps = 0
    while not pace.is_resting:
        pace.learn(1, num_asked=1, proposed=4, right=0)
        steps += 1
    assert AT_FIRST <= steps * price <= AT_FIRST + price <= PURSE
