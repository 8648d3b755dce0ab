"""The best token of a row, and the log-probabilities of those that ask."""

import math

import pytest
import torch
from sampled_rows import VOCAB, best, counts, ramp, sampled
from sequences import ends_of, sequence

from engines.sampling.next_token import first_argmax, row_logprobs
from engines.sampling.sampling_rows import logprob_rows, sampling_rows


def test_greedy_takes_the_largest_logit() -> None:
    assert best(ramp(t4=9.0)) == 4


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    logits = torch.zeros(3, 50_000)
    logits[1, 77:] = 1.0
    logits[2, 49_999] = 2.0
    assert first_argmax(logits).tolist() == [0, 77, 49_999]


def test_a_row_with_a_nan_is_marked_and_others_are_not() -> None:
    rows = [ramp(t4=math.nan), ramp(t4=9.0)]
    assert sampled(rows, [sequence([0]), sequence([0])]).tolist() == [VOCAB, 4]
    hot = [sequence([0], temperature=1.0, top_p=0.5) for _ in rows]
    assert sampled(rows, hot)[0] == VOCAB


def test_logprobs_are_of_the_raw_distribution() -> None:
    logits = [1.0, 3.0, 2.0, 0.0]
    expected = torch.tensor(logits).log_softmax(0)
    one = sequence([0], temperature=0.1, logit_bias={1: -100.0}, repetition_penalty=2.0, logprobs=2)
    ids = sampled([logits], [one])
    assert ids.tolist() == [2]
    wanted = logprob_rows(ends_of([one]))
    assert wanted is not None
    result = row_logprobs(torch.tensor([logits]), ids, wanted)
    assert result.chosen_R.tolist() == pytest.approx([expected[2].item()])
    assert result.top_ids_RA.tolist() == [[1, 2]]
    assert result.top_RA.tolist()[0] == pytest.approx([expected[1].item(), expected[2].item()])


def test_only_rows_that_ask_get_logprobs() -> None:
    rows = [sequence([0]), sequence([0], logprobs=0), sequence([0], logprobs=1)]
    wanted = logprob_rows(ends_of(rows))
    assert wanted is not None and (wanted.rows, wanted.num_alternatives) == ((1, 2), 1)
    found = row_logprobs(torch.tensor([ramp()] * 3), torch.tensor([0, 1, VOCAB]), wanted)
    assert found.chosen_R.shape == (2,), "a NaN has some token's, and is not told"
    assert logprob_rows(ends_of(rows[:1])) is None


def test_plain_greedy_rows_build_nothing() -> None:
    rows = sampling_rows(ends_of([sequence([0]), sequence([1])]), counts(), VOCAB)
    assert (rows.penalties, rows.edits, rows.draws) == (None, None, None)
