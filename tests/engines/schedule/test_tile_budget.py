"""How many tiles a step encodes beside answers in progress."""

from dataclasses import replace

import pytest
from scheduling import image, scheduler, sizes, step
from sequences import sequence
from tiny_engine import picture

from engines.schedule.sequence import ImageSlots, Sequence
from engines.schedule.tile_budget import TileBudget


def of_tiles(start: int, num_tiles: int) -> ImageSlots:
    """A picture of four tokens."""
    return replace(image(bytes([start]), start, 4), pixels=picture(start, num_tiles))


def prompt(*pictures: ImageSlots, length: int = 24) -> Sequence:
    return sequence([*range(length)], images=pictures)


@pytest.mark.parametrize(
    ("most", "num_decodes", "tokens"),
    [(None, 1, 24), (2, 0, 24), (6, 1, 24), (5, 1, 17), (3, 1, 9), (1, 1, 9)],
)
def test_a_prompt_goes_on_up_to_the_first_picture_too_many(
    most: int | None, num_decodes: int, tokens: int
) -> None:
    budget = TileBudget(most, num_decodes=num_decodes)
    assert budget.tokens(prompt(of_tiles(2, 3), of_tiles(9, 1), of_tiles(17, 2)), 24) == tokens


def test_prompts_of_one_step_share_its_tiles_and_pictures_begun_before_are_not_counted_again() -> None:
    budget = TileBudget(4, num_decodes=1)
    begun = prompt(of_tiles(2, 3), of_tiles(9, 3))
    begun.num_computed = 4
    assert budget.tokens(begun, 20) == 20
    assert budget.tokens(prompt(of_tiles(0, 3)), 24) == 0
    assert budget.tokens(prompt(of_tiles(0, 1)), 24) == 24
    assert budget.tokens(prompt(), 24) == 24, "text needs no tiles"


def test_steps_beside_an_answer_encode_a_picture_each_and_all_are_read_in_the_end() -> None:
    engine = scheduler(tiles_per_iter=3, prefix_caching=False)
    engine.add(sequence([1, 2, 3], max_new_tokens=30))
    step(engine)
    names = []
    for _ in range(2):
        one = prompt(of_tiles(0, 3), of_tiles(12, 3))
        names.append(one.request_id)
        engine.add(one)
    read = [[part for part in sizes(step(engine)) if part[0] in names and part[1] > 1] for _ in range(4)]
    first, second = names
    assert read == [[(first, 12)], [(first, 12)], [(second, 12)], [(second, 12)]]


def test_without_answers_in_progress_a_step_takes_all_pictures() -> None:
    engine = scheduler(tiles_per_iter=3, prefix_caching=False)
    for _ in range(2):
        engine.add(prompt(of_tiles(0, 3), of_tiles(12, 3)))
    assert [tokens for _, tokens in sizes(step(engine))] == [24, 24]
