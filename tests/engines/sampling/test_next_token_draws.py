"""Tokens that are drawn: how often each, and by whose seed."""

import math
from typing import Any

import pytest
import torch
from sampled_rows import VOCAB, counts, sampled
from sequences import ends_of, sequence

from engines.sampling.next_token import sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.sampling_rows import sampling_rows

NUM_DRAWS = 4000


def shares(logits: list[float], **how: Any) -> list[float]:
    """Return how often each token is drawn over many seeds."""
    table = torch.tensor([logits], dtype=torch.float32).expand(NUM_DRAWS, -1)
    draws = [sequence([0], seed=seed, **how) for seed in range(NUM_DRAWS)]
    ids_S = sample(table, sampling_rows(ends_of(draws), counts(len(logits)), len(logits)))
    return [n / NUM_DRAWS for n in torch.bincount(ids_S, minlength=len(logits)).tolist()]


def test_a_tiny_temperature_is_greedy() -> None:
    assert shares([0.0, 0.5, 1.0], temperature=1e-30) == [0.0, 0.0, 1.0]


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
        token = int(sampled([logits], [one])[0])
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
            one.token_ids.append(int(sampled([logits], [one])[0]))
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
    together = sample(logits, sampling_rows(ends_of(sequences), counts(200), 200)).tolist()
    alone = [
        int(sample(logits[row : row + 1], sampling_rows(ends_of([one]), counts(200), 200))[0])
        for row, one in enumerate(sequences)
    ]
    order = [4, 0, 5, 2, 1, 3]
    shuffled = sample(
        logits[order], sampling_rows(ends_of([sequences[row] for row in order]), counts(200), 200)
    )
    assert together == alone
    assert shuffled.tolist() == [together[row] for row in order]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_draws_what_the_cpu_draws() -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    rows = [sequence([1, 2], seed=row, temperature=1.0, top_k=50, top_p=0.9) for row in range(64)]
    on_gpu = TokenCounts(max_sequences=64, vocab=1000, device=torch.device("cuda"))
    gpu = sample(logits.cuda(), sampling_rows(ends_of(rows), on_gpu, 1000)).tolist()
    assert gpu == sample(logits, sampling_rows(ends_of(rows), counts(1000), 1000)).tolist()
