import random

import pytest

from engines.schedule.prompt_lookup import PromptLookup


def plainly(tokens: list[int], match_tokens: int, most: int) -> list[int]:
    """What follows the latest earlier place of the last tokens, by looking at all of them."""
    last = tokens[-match_tokens:]
    for end in range(len(tokens) - 1, match_tokens - 1, -1):
        if tokens[end - match_tokens : end] == last:
            text = list(tokens)
            while len(text) < len(tokens) + most:
                text.append(text[end + len(text) - len(tokens)])
            return text[len(tokens) :]
    return []


@pytest.mark.parametrize("seed", range(60))
def test_what_follows_is_what_a_search_through_all_tokens_finds(seed: int) -> None:
    dice = random.Random(seed)
    match_tokens, most = dice.randrange(1, 5), dice.randrange(0, 9)
    lookup, tokens = PromptLookup(match_tokens), list[int]()
    for _ in range(60):
        tokens += [dice.randrange(3) for _ in range(dice.randrange(1, 6))]
        assert lookup.followers(tokens, most) == plainly(tokens, match_tokens, most)


def test_the_latest_of_several_places_counts() -> None:
    assert PromptLookup(2).followers([1, 2, 3, 1, 2, 4, 5, 1, 2], 2) == [4, 5]


def test_text_that_repeats_itself_is_taken_to_go_on_so() -> None:
    assert PromptLookup(2).followers([9, 1, 2, 3, 1, 2], 7) == [3, 1, 2, 3, 1, 2, 3]


def test_a_text_that_is_too_short_has_no_place_before() -> None:
    assert PromptLookup(3).followers([1, 1, 1], 4) == []
    assert PromptLookup(3).followers([1, 1, 1, 1], 2) == [1, 1]
