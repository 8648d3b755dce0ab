import math
from collections.abc import Sequence as Seq
from typing import Any

import pytest
import torch
from sequences import ends_of, sequence

from engines.penalties import TokenCounts
from engines.sampling import Sampled, first_argmax, sample
from engines.sampling_rows import sampling_rows
from engines.sequence import Sequence

VOCAB = 12
NUM_DRAWS = 4000


def counts(vocab: int = VOCAB) -> TokenCounts:
    return TokenCounts(max_sequences=8, vocab=vocab, device=torch.device("cpu"))


def sampled(logits: Seq[Seq[float]], sequences: list[Sequence]) -> Sampled:
    table = torch.tensor(logits, dtype=torch.float32)
    return sample(table, sampling_rows(ends_of(sequences), counts(table.shape[1]), table.shape[1]))


def best(logits: list[float], outputs: Seq[int] = (), **how: Any) -> int:
    """The one token that a row with this output so far and these parameters takes."""
    one = sequence([0], **how)
    one.token_ids += outputs
    return int(sampled([logits], [one]).ids_S[0])


def shares(logits: list[float], **how: Any) -> list[float]:
    """How often each token is drawn over many seeds."""
    table = torch.tensor([logits], dtype=torch.float32).expand(NUM_DRAWS, -1)
    draws = [sequence([0], seed=seed, **how) for seed in range(NUM_DRAWS)]
    ids_S = sample(table, sampling_rows(ends_of(draws), counts(len(logits)), len(logits))).ids_S
    return [n / NUM_DRAWS for n in torch.bincount(ids_S, minlength=len(logits)).tolist()]


def ramp(**changes: float) -> list[float]:
    logits = [0.1 * token for token in range(VOCAB)]
    for name, value in changes.items():
        logits[int(name[1:])] = value
    return logits


# --- greedy


def test_greedy_takes_the_largest_logit() -> None:
    assert best(ramp(t4=9.0)) == 4


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    logits = torch.zeros(3, 50_000)
    logits[1, 77:] = 1.0
    logits[2, 49_999] = 2.0
    assert first_argmax(logits).tolist() == [0, 77, 49_999]


def test_a_row_with_a_nan_is_marked_and_others_are_not() -> None:
    rows = [ramp(t4=math.nan), ramp(t4=9.0)]
    assert sampled(rows, [sequence([0]), sequence([0])]).ids_S.tolist() == [VOCAB, 4]
    hot = [sequence([0], temperature=1.0, top_p=0.5) for _ in rows]
    assert sampled(rows, hot).ids_S[0] == VOCAB


def test_a_tiny_temperature_is_greedy() -> None:
    assert shares([0.0, 0.5, 1.0], temperature=1e-30) == [0.0, 0.0, 1.0]


# --- drawing


def test_draws_follow_the_softmax() -> None:
    logits = [0.0, 1.0, -1.0, 2.0, 0.5]
    expected = torch.tensor(logits).softmax(0).tolist()
    seen = shares(logits, temperature=1.0)
    chi_square = sum(NUM_DRAWS * (s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


def test_draws_along_one_output_follow_the_softmax() -> None:
    logits = [0.0, 1.0, -1.0]
    expected = torch.tensor(logits).softmax(0).tolist()
    one = sequence([0], temperature=1.0, seed=5)
    seen = [0, 0, 0]
    for _ in range(2000):
        token = int(sampled([logits], [one]).ids_S[0])
        seen[token] += 1
        one.token_ids.append(token)
    assert [n / 2000 for n in seen] == pytest.approx(expected, abs=0.035)


def test_temperature_divides_the_logits() -> None:
    expected = torch.tensor([0.0, 0.5]).softmax(0).tolist()
    assert shares([0.0, 1.0], temperature=2.0) == pytest.approx(expected, abs=0.025)


def test_top_k_keeps_the_best_k_in_their_proportion() -> None:
    seen = shares([3.0, 2.0, 2.5, -1.0, 1.0], temperature=1.0, top_k=2)
    expected = torch.tensor([3.0, 2.5]).softmax(0).tolist()
    assert [seen[0], seen[2]] == pytest.approx(expected, abs=0.025)
    assert seen[1] == seen[3] == seen[4] == 0


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    assert min(shares([0.0, 0.1, 0.2], temperature=1.0, top_k=1000)) > 0.2


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    seen = shares(logits, temperature=1.0, top_p=0.75)
    assert seen[:2] == pytest.approx([0.625, 0.375], abs=0.025)
    assert seen[2:] == [0, 0]


def test_top_p_zero_keeps_the_best() -> None:
    assert shares([0.0, 0.1, 0.0], temperature=1.0, top_p=0.0)[1] == 1.0


def test_top_p_counts_within_what_top_k_left() -> None:
    logits = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]
    seen = shares(logits, temperature=1.0, top_k=2, top_p=0.5)  # 0.4 / 0.7 alone reaches a half
    assert seen == [1.0, 0, 0, 0]


def test_min_p_is_relative_to_the_best() -> None:
    logits = [math.log(p) for p in (0.6, 0.25, 0.1, 0.05)]
    seen = shares(logits, temperature=1.0, min_p=0.3)
    assert seen[:2] == pytest.approx([0.6 / 0.85, 0.25 / 0.85], abs=0.025)
    assert seen[2:] == [0, 0]


def test_a_seed_repeats_and_another_differs() -> None:
    logits = [0.0] * VOCAB
    outputs = []
    for seed in (1, 1, 2):
        one = sequence([0], temperature=1.0, seed=seed)
        for _ in range(20):
            one.token_ids.append(int(sampled([logits], [one]).ids_S[0]))
        outputs.append(one.token_ids[1:])
    assert outputs[0] == outputs[1] != outputs[2]
    assert len(set(outputs[0])) > 5


def test_a_seed_gives_the_same_tokens_in_any_company() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 200, generator=generator)
    how: list[dict[str, Any]] = [
        {"temperature": 1.0},
        {"temperature": 0.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.6, "repetition_penalty": 1.5},
        {"temperature": 0.9, "min_p": 0.1, "logit_bias": {3: 2.0}},
        {"temperature": 1.0, "presence_penalty": 1.0, "logprobs": 3},
    ]
    sequences = [sequence([1, 2, 3], seed=row, **one) for row, one in enumerate(how)]
    together = sample(logits, sampling_rows(ends_of(sequences), counts(200), 200)).ids_S.tolist()
    alone = [
        int(sample(logits[row : row + 1], sampling_rows(ends_of([one]), counts(200), 200)).ids_S[0])
        for row, one in enumerate(sequences)
    ]
    order = [4, 0, 5, 2, 1, 3]
    shuffled = sample(
        logits[order], sampling_rows(ends_of([sequences[row] for row in order]), counts(200), 200)
    )
    assert together == alone
    assert shuffled.ids_S.tolist() == [together[row] for row in order]


# --- penalties


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_prompt_and_output() -> None:
    assert best([2.0, 1.5, 0.0], repetition_penalty=1.5) == 1  # 0 is in the prompt: 2 / 1.5
    assert best([-9.0, 2.0, 1.5], outputs=[1], repetition_penalty=1.5) == 2
    assert best([-1.0, -1.2, -9.0], repetition_penalty=1.5) == 1  # -1 * 1.5


def test_presence_penalty_counts_an_output_once_and_leaves_the_prompt_alone() -> None:
    assert best([1.0, 0.5], presence_penalty=0.9) == 0
    assert best([1.0, 0.5], outputs=[0], presence_penalty=0.4) == 0
    assert best([1.0, 0.5], outputs=[0, 0, 0], presence_penalty=0.4) == 0
    assert best([1.0, 0.5], outputs=[0], presence_penalty=0.6) == 1


def test_frequency_penalty_grows_with_each_repetition() -> None:
    assert best([1.0, 0.5], outputs=[0], frequency_penalty=0.3) == 0
    assert best([1.0, 0.5], outputs=[0, 0], frequency_penalty=0.3) == 1


def test_negative_penalties_reward_repetition() -> None:
    assert best([1.0, 0.5], outputs=[1], presence_penalty=-0.6) == 1


def test_counts_follow_a_sequence_from_step_to_step_and_past_others() -> None:
    table = TokenCounts(max_sequences=2, vocab=4, device=torch.device("cpu"))
    several = [sequence([0, 1]) for _ in range(3)]
    for round_ in range(3):
        for one in several:  # three sequences share two rows
            seen, outputs = table.of(ends_of([one]), None)
            assert outputs[0].tolist() == [0, 0, round_, 0]
            assert seen[0].tolist() == [True, True, round_ > 0, False]
            one.token_ids.append(2)
    both = table.of(ends_of(several[:2]), None)[1]
    assert both.tolist() == [[0, 0, 3, 0], [0, 0, 3, 0]]


# --- masks and biases


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


# --- log-probabilities


def test_logprobs_are_of_the_raw_distribution() -> None:
    logits = [1.0, 3.0, 2.0, 0.0]
    expected = torch.tensor(logits).log_softmax(0)
    one = sequence([0], temperature=0.1, logit_bias={1: -100.0}, repetition_penalty=2.0, logprobs=2)
    result = sampled([logits], [one])
    assert result.logprobs is not None
    assert result.ids_S.tolist() == [2]
    assert result.logprobs.chosen_R.tolist() == pytest.approx([expected[2].item()])
    assert result.logprobs.top_ids_RA.tolist() == [[1, 2]]
    assert result.logprobs.top_RA.tolist()[0] == pytest.approx([expected[1].item(), expected[2].item()])


def test_only_rows_that_ask_get_logprobs() -> None:
    rows = [sequence([0]), sequence([0], logprobs=0), sequence([0], logprobs=1)]
    result = sampled([ramp()] * 3, rows)
    assert result.logprobs is not None
    assert result.logprobs.chosen_R.shape == (2,)
    assert sampled([ramp()], rows[:1]).logprobs is None


def test_plain_greedy_rows_build_nothing() -> None:
    rows = sampling_rows(ends_of([sequence([0]), sequence([1])]), counts(), VOCAB)
    assert (rows.penalties, rows.edits, rows.draws, rows.logprob_rows) == (None, None, None, ())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_draws_what_the_cpu_draws() -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    rows = [sequence([1, 2], seed=row, temperature=1.0, top_k=50, top_p=0.9) for row in range(64)]
    on_gpu = TokenCounts(max_sequences=64, vocab=1000, device=torch.device("cuda"))
    gpu = sample(logits.cuda(), sampling_rows(ends_of(rows), on_gpu, 1000)).ids_S.tolist()
    assert gpu == sample(logits, sampling_rows(ends_of(rows), counts(1000), 1000)).ids_S.tolist()


# --- grammars


class Allowing:
    """A grammar that allows some ids, and notes the outputs that it was asked with."""

    fault = None

    def __init__(self, *ids: int) -> None:
        self.ids = ids
        self.asked: list[list[int]] = []

    def mask(self, outputs: list[int]) -> bytes:
        self.asked.append(outputs)
        return sum(1 << token_id for token_id in self.ids).to_bytes(4, "little")


def held(*ids: int, **how: Any) -> Sequence:
    one = sequence([0], **how)
    one.grammar = Allowing(*ids)  # type: ignore[assignment]
    return one


def test_a_row_with_a_grammar_takes_the_best_that_it_allows_and_others_what_they_want() -> None:
    rows = [ramp()] * 3
    assert sampled(rows, [held(3, 7), sequence([0]), held(1)]).ids_S.tolist() == [7, 11, 1]


def test_a_draw_stays_within_the_grammar() -> None:
    table = torch.zeros(1, VOCAB).expand(NUM_DRAWS, -1)
    draws = [held(2, 5, 9, seed=seed, temperature=1.0, top_k=2) for seed in range(NUM_DRAWS)]
    ids_S = sample(table, sampling_rows(ends_of(draws), counts(), VOCAB)).ids_S
    assert set(ids_S.tolist()) == {2, 5, 9}


def test_a_grammar_is_asked_with_the_output_alone() -> None:
    one = held(4)
    one.token_ids += [6, 7]
    sampled([ramp()], [one])
    assert one.grammar.asked == [[6, 7]]  # type: ignore[union-attr]


def test_a_sequence_with_a_grammar_needs_the_host() -> None:
    assert held(1).needs_host
    assert not sequence([0]).needs_host
