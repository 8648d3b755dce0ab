"""Seeded questions and pictures."""

import io

import pytest
from PIL import Image

from deployer.bench.workload import asks, words_for


def test_the_same_seed_asks_the_same_and_another_asks_otherwise() -> None:
    asked = asks(4, words=20, size=(30, 20), seed=1, stream="row 1")
    assert asks(4, words=20, size=(30, 20), seed=1, stream="row 1") == asked
    assert asks(4, words=20, size=(30, 20), seed=2, stream="row 1") != asked


def test_no_two_asks_are_alike_so_that_no_cache_answers() -> None:
    asked = [
        one for row in ("row 1", "row 8") for one in asks(20, words=12, size=(30, 20), seed=1, stream=row)
    ]
    assert len({one.picture for one in asked}) == 40
    assert len({one.text for one in asked}) == 40


def test_a_picture_has_the_size_that_was_asked_for() -> None:
    picture = asks(1, words=1, size=(30, 20), seed=0, stream="")[0].picture
    assert picture is not None
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.size) == ("PNG", (30, 20))
    assert asks(1, words=1, size=None, seed=0, stream="")[0].picture is None


@pytest.mark.parametrize("tokens_per_word", [1, 1.5, 4])
def test_the_words_of_a_prompt_come_from_what_two_texts_cost(tokens_per_word: float) -> None:
    template = 33
    few, many = (round(template + words * tokens_per_word) for words in (4, 68))
    words = words_for(600, tokens_of_few=few, tokens_of_many=many, few=4, many=68)
    assert words * tokens_per_word == pytest.approx(600, rel=0.02)
