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


def test_a_wait_is_priced_in_steps_of_the_engine_and_by_what_is_asked() -> None:
    small, large, alone = (StepPrices(step_us=us) for us in (600.0, 6000.0, None))
    rows = 8 * StepPrices.ROW
    eight = {"num_asked": 2, "num_tokens": 8}
    assert small.of(**eight) - rows == pytest.approx(10 * (large.of(**eight) - rows))
    assert large.of(**eight) > large.of(num_asked=1, num_tokens=8)
    assert large.of(**eight) > large.of(num_asked=2, num_tokens=4)
    assert alone.of(**eight) == pytest.approx(rows)


# What one H200 gained and lost: InternVL2-1B's steps take 888 to 916 us, InternVL2-8B's 2608 to 2612.
@pytest.mark.parametrize(
    ("step_us", "num", "asked", "pays"),
    [
        (888.0, 2, 1, False), (888.0, 3, 3, False), (2612.0, 8, 8, True), (2612.0, 8, 4, False),
        (916.0, 1, 1, True), (916.0, 4, 4, False), (916.0, 16, 4, False), (916.0, 32, 32, False),
        (2608.0, 1, 1, True), (2608.0, 4, 4, True), (2608.0, 16, 4, False), (2608.0, 32, 32, False),
        (None, 60, 60, True),
    ],
)  # fmt: skip
def test_grammars_pay_where_they_were_measured_to(
    step_us: float | None, num: int, asked: int, pays: bool
) -> None:
    pace = GrammarPace(StepPrices(step_us=step_us))
    assert pace.pays(num, num_asked=asked, most=min(8 * asked, 64 - num)) is pays


def test_grammars_pay_up_to_so_many_sequences() -> None:
    pace = GrammarPace(StepPrices(step_us=2608.0))
    all_asked = [pace.pays(num, num_asked=num, most=min(8 * num, 64 - num)) for num in range(1, 64)]
    one_asked = [pace.pays(num, num_asked=1, most=8) for num in range(1, 64)]
    for pays in (all_asked, one_asked):
        assert pays == sorted(pays, reverse=True)
    assert sum(all_asked) > sum(one_asked) > 0
    assert not pace.pays(4, num_asked=4, most=1), "hardly a row is left"


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
    price = prices.of(num_asked=1, num_tokens=1)
    steps = 0
    while not pace.is_resting:
        pace.learn(1, num_asked=1, proposed=1, right=0)
        steps += 1
    assert AT_FIRST <= steps * price <= AT_FIRST + price <= PURSE
