"""What was chosen under a mask is expected there again; text that must come is spelled in long tokens."""

import pytest

from engines.sampling.likely_tokens import KEPT, LikelyTokens, mask_key

ANY, FEW = b"\xff\xff\xff\xff", b"\x0e\0\0\0"  # all ids; 1, 2 and 3
SPELLED = {"ab": [2, 3], "c": [9]}


def likely() -> LikelyTokens:
    return LikelyTokens(lambda text: SPELLED.get(text, []))


def after(one: LikelyTokens, *tokens: int, mask: bytes = ANY) -> int | None:
    for token in tokens:
        one.note(mask_key(mask), token)
    return one.behind(mask, mask_key(mask), b"")


def test_nothing_is_likely_where_nothing_was_chosen_or_must_come() -> None:
    assert likely().behind(ANY, mask_key(ANY), b"") is None


def test_text_that_must_come_is_spelled_until_another_spelling_was_chosen() -> None:
    one = likely()
    assert one.behind(FEW, mask_key(FEW), b"ab") == 2
    one.note(mask_key(FEW), 1)
    assert one.behind(FEW, mask_key(FEW), b"ab") == 1


@pytest.mark.parametrize("forced", [b"c", b"?", b"\xa4"])
def test_a_spelling_that_may_not_come_or_is_none_is_not_likely(forced: bytes) -> None:
    assert likely().behind(FEW, mask_key(FEW), forced) is None


def test_one_choice_is_enough_and_a_mistake_takes_two_more() -> None:
    one = likely()
    assert after(one, 7) == 7
    assert after(one, 7, 7, 7, 7, 7) == 7
    assert after(one, 8) is None
    assert after(one, 8) is None
    assert after(one, 8) == 8


def test_where_mistakes_go_on_nothing_is_likely_until_eight_in_a_row_were_the_same() -> None:
    one = likely()
    assert after(one, *range(1, 9)) is None
    assert [after(one, 8) for _ in range(8)] == [None] * 7 + [8]


def test_other_masks_have_choices_of_their_own() -> None:
    one = likely()
    after(one, 7)
    assert one.behind(FEW, mask_key(FEW), b"") is None
    assert after(one, 2, mask=FEW) == 2


def test_masks_noted_first_are_forgotten_first() -> None:
    one = likely()
    for number in range(KEPT + 1):
        one.note(number, 5)
    one.note(mask_key(ANY), 6)
    assert len(one._choices) == KEPT
    assert 0 not in one._choices and 1 not in one._choices
    assert one.behind(ANY, mask_key(ANY), b"") == 6
