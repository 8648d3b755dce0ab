"""Rows that a device chooses by itself give the tokens that the sampler gives."""

from typing import Any

import pytest
import torch
from sequences import ends_of, sequence

from engines.noise import gumbel_noise
from engines.penalties import TokenCounts
from engines.plain_rows import PlainDraws, plain_rows
from engines.sampling import first_argmax, sample
from engines.sampling_rows import sampling_rows

CPU = torch.device("cpu")
VOCAB = 40


def chosen(logits_SV: torch.Tensor, draws: PlainDraws) -> torch.Tensor:
    """What a kernel does with the numbers, as its header says it."""
    best_S1 = logits_SV.amax(dim=1, keepdim=True)
    y_SV = (logits_SV - best_S1) / draws.temperature_S.clamp(min=1e-6)[:, None]
    noisy_SV = y_SV + gumbel_noise(draws.keys_S2, logits_SV.shape[1])
    drawn_S = first_argmax(torch.where(y_SV < draws.cut_S[:, None], -torch.inf, noisy_SV))
    return torch.where(draws.temperature_S > 0, drawn_S, first_argmax(logits_SV))


def test_drawn_rows_are_those_of_the_sampler() -> None:
    rows = [
        sequence([1, 2], seed=seed, temperature=[0.0, 0.7, 1.3][seed % 3], min_p=[0.0, 0.2][seed % 2])
        for seed in range(60)
    ]
    for one in rows[::4]:
        one.token_ids += [3, 4]
    logits = 3 * torch.randn(60, VOCAB, generator=torch.Generator().manual_seed(2))
    counts = TokenCounts(max_sequences=60, vocab=VOCAB, device=CPU)
    expected = sample(logits, sampling_rows(ends_of(rows), counts, VOCAB)).ids_S
    plain = plain_rows(ends_of(rows), CPU)
    assert plain is not None and plain.draws is not None
    assert chosen(logits, plain.draws).tolist() == expected.tolist()


def test_greedy_rows_bring_no_numbers() -> None:
    plain = plain_rows(ends_of([sequence([1], top_k=3), sequence([2], top_p=0.5)]), CPU)
    assert plain is not None and plain.draws is None


@pytest.mark.parametrize(
    "how",
    [
        {"logprobs": 0},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -0.1},
        {"min_new_tokens": 1},
        {"bad_sequences": ((1,),)},
        {"logit_bias": {1: 2.0}},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.9},
    ],
    ids=str,
)
def test_a_row_that_asks_for_more_is_not_plain_and_its_step_neither(how: dict[str, Any]) -> None:
    assert plain_rows(ends_of([sequence([1]), sequence([1], **how)]), CPU) is None
