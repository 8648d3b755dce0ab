"""Rows that a device chooses by itself give the tokens that the sampler gives."""

from typing import Any

import pytest
import torch
from sequences import ends_of, sequence

from engines.sampling.next_token import first_argmax, sample
from engines.sampling.noise import gumbel_noise
from engines.sampling.penalties import TokenCounts
from engines.sampling.plain_rows import CHOICE, plain_rows
from engines.sampling.sampling_rows import sampling_rows

CPU = torch.device("cpu")
VOCAB = 40


def chosen(logits_V: torch.Tensor, choice: Any) -> int:
    """What a kernel does with the numbers of a row without penalties, as its header says it."""
    if choice["temperature"] == 0:
        return int(first_argmax(logits_V[None]))
    y_V = (logits_V - logits_V.max()) / max(float(choice["temperature"]), 1e-6)
    falling = sorted(y_V.tolist(), reverse=True)[: int(choice["top_k"])]
    shares = torch.tensor(falling).softmax(0).tolist()
    kept = [y for i, y in enumerate(falling) if sum(shares[:i]) < choice["top_p"]]
    cut = max(float(choice["log_min_p"]), kept[-1])
    keys = torch.tensor([[int(choice["key_low"]), int(choice["key_high"])]])
    noisy_V = y_V + gumbel_noise(keys, len(logits_V))[0]
    return int(first_argmax(torch.where(y_V < cut, -torch.inf, noisy_V)[None]))


def test_drawn_rows_are_those_of_the_sampler() -> None:
    rows = [
        sequence(
            [1, 2],
            seed=seed,
            temperature=[0.0, 0.7, 1.3][seed % 3],
            min_p=[0.0, 0.2][seed % 2],
            top_k=[0, 7, 100][seed // 3 % 3],
            top_p=[1.0, 0.8][seed // 9 % 2],
        )
        for seed in range(60)
    ]
    for one in rows[::4]:
        one.token_ids += [3, 4]
    logits = 3 * torch.randn(60, VOCAB, generator=torch.Generator().manual_seed(2))
    counts = TokenCounts(max_sequences=60, vocab=VOCAB, device=CPU)
    expected = sample(logits, sampling_rows(ends_of(rows), counts, VOCAB)).ids_S
    plain = plain_rows(ends_of(rows), counts, VOCAB)
    assert plain is not None and plain.choices_S6 is not None
    choices = plain.choices_S6.numpy().view(CHOICE)[:, 0]
    assert [chosen(*row) for row in zip(logits, choices, strict=True)] == expected.tolist()


def test_greedy_rows_bring_no_numbers() -> None:
    plain = plain_rows(ends_of([sequence([1], top_k=3), sequence([2], top_p=0.5)]), no_counts(), VOCAB)
    assert plain is not None and plain.choices_S6 is None


def test_penalized_rows_name_a_row_of_the_tables_and_others_none() -> None:
    counts = no_counts()
    rows = [
        sequence([1, 2]),
        sequence([3, 3], repetition_penalty=1.5),
        sequence([4], presence_penalty=0.5, frequency_penalty=0.25),
    ]
    rows[2].token_ids += [7, 7]
    plain = plain_rows(ends_of(rows), counts, VOCAB)
    assert plain is not None and plain.choices_S6 is not None
    choices = plain.choices_S6.numpy().view(CHOICE)[:, 0]
    assert choices["counts"].tolist() == [0, 1, 2]
    assert choices["repetition"].tolist() == [1.0, 1.5, 1.0]
    assert choices["presence"].tolist() == [0.0, 0.0, 0.5]
    assert choices["frequency"].tolist() == [0.0, 0.0, 0.25]
    seen, outputs = counts.tables()
    assert seen[0].nonzero().flatten().tolist() == [3]
    assert seen[1].nonzero().flatten().tolist() == [4, 7]
    assert outputs[1].nonzero().flatten().tolist() == [7] and outputs[1, 7] == 2


def no_counts() -> TokenCounts:
    return TokenCounts(max_sequences=8, vocab=VOCAB, device=CPU)


@pytest.mark.parametrize(
    "how",
    [
        {"logprobs": 0},
        {"min_new_tokens": 1},
        {"bad_sequences": ((1,),)},
        {"logit_bias": {1: 2.0}},
    ],
    ids=str,
)
def test_a_row_that_asks_for_more_is_not_plain_and_its_step_neither(how: dict[str, Any]) -> None:
    assert plain_rows(ends_of([sequence([1]), sequence([1], **how)]), no_counts(), VOCAB) is None
