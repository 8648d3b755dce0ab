"""What a row may not take: biases, stop ids, bad sequences, grammars."""

from typing import Any

import pytest
import torch
from allowing import held
from sampled_rows import VOCAB, best, counts, ramp, sampled
from sequences import ends_of, sequence

from engines.sampling.next_token import sample
from engines.sampling.sampling_rows import sampling_rows


def test_logit_bias_is_added() -> None:
    assert best(ramp(), logit_bias={3: 2.0}) == 3
    assert best(ramp(), logit_bias={11: -100.0}) == 10


def test_stop_ids_wait_for_min_new_tokens() -> None:
    how: dict[str, Any] = {"min_new_tokens": 2, "eos_token_ids": (4,), "stop_token_ids": (5,)}
    logits = ramp(t4=9.0, t5=8.0)
    assert best(logits, outputs=[1], **how) == 11
    assert best(logits, outputs=[1, 1], **how) == 4
    assert best(logits, outputs=[1], ignore_eos=True, **how) == 4


@pytest.mark.parametrize(
    "bad, outputs, expected",
    [
        ((4,), [], 11),
        ((7, 4), [], 4),
        ((7, 4), [7], 11),
        ((7, 4), [7, 7, 7], 11),
        ((7, 4), [7, 1], 4),
        ((1, 2, 3, 4), [1, 2, 3], 11),
        ((1, 2, 3, 4), [2, 3], 4),
        ((0, 4), [], 4),  # the 0 stands in the prompt
    ],
)
def test_a_bad_sequence_of_any_length_is_never_completed(
    bad: tuple[int, ...], outputs: list[int], expected: int
) -> None:
    assert best(ramp(t4=9.0), outputs=outputs, bad_sequences=(bad,)) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_in_which_everything_is_forbidden_still_ends_in_a_token(temperature: float) -> None:
    everything = tuple((token,) for token in range(VOCAB))
    assert best(ramp(), temperature=temperature, top_p=0.9, bad_sequences=everything) < VOCAB


def test_a_row_with_a_grammar_takes_the_best_that_it_allows_and_others_what_they_want() -> None:
    rows = [ramp()] * 3
    asking = [held([3, 7], vocab=VOCAB), sequence([0]), held([1], vocab=VOCAB)]
    assert sampled(rows, asking).tolist() == [7, 11, 1]


def test_a_draw_stays_within_the_grammar() -> None:
    table = torch.zeros(1, VOCAB).expand(200, -1)
    draws = [held([2, 5, 9], vocab=VOCAB, seed=seed, temperature=1.0, top_k=2) for seed in range(200)]
    ids_S = sample(table, sampling_rows(ends_of(draws), counts(), VOCAB))
    assert set(ids_S.tolist()) == {2, 5, 9}


def test_a_grammar_is_asked_with_the_output_alone() -> None:
    one = held([4], vocab=VOCAB)
    one.token_ids += [6, 7]
    sampled([ramp()], [one])
    assert one.grammar.asked == [[6, 7]]  # type: ignore[union-attr]


def test_rows_that_depend_on_the_last_token_are_chosen_late() -> None:
    assert held([1], vocab=VOCAB).is_chosen_late
    assert not sequence([0]).is_chosen_late
    assert sequence([0], bad_sequences=((1, 2),)).is_chosen_late
    assert not sequence([0], bad_sequences=((1,),)).is_chosen_late
