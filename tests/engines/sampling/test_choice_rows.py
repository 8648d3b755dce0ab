"""Rows that a device chooses by itself give the tokens that the sampler gives."""

from typing import Any

import torch
from allowing import held
from choice_memory import choices_of, largest, limited
from sequences import ends_of, sequence

from engines.sampling.choice_rows import choice_rows
from engines.sampling.next_token import first_argmax, sample
from engines.sampling.noise import gumbel_noise
from engines.sampling.penalties import TokenCounts
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
    expected = sample(logits, sampling_rows(ends_of(rows), counts, VOCAB))
    choices = choices_of(choice_rows(ends_of(rows), counts, VOCAB))
    assert [chosen(*row) for row in zip(logits, choices, strict=True)] == expected.tolist()


def test_greedy_rows_bring_no_numbers() -> None:
    plain = choice_rows(ends_of([sequence([1], top_k=3), sequence([2], top_p=0.5)]), no_counts(), VOCAB)
    assert plain.choices_SC is None


def test_penalized_rows_name_a_row_of_the_tables_and_others_none() -> None:
    counts = no_counts()
    rows = [
        sequence([1, 2]),
        sequence([3, 3], repetition_penalty=1.5),
        sequence([4], presence_penalty=0.5, frequency_penalty=0.25),
    ]
    rows[2].token_ids += [7, 7]
    choices = choices_of(choice_rows(ends_of(rows), counts, VOCAB))
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


def test_limited_rows_have_the_addresses_of_their_edits_and_masks_and_others_none() -> None:
    rows = [
        sequence([1]),
        held([3, 8, 9], vocab=VOCAB, logit_bias={8: 1.5, 4: 99.0}),
        sequence([1], min_new_tokens=1, eos_token_ids=(39,), stop_token_ids=(VOCAB,)),
        held([7], vocab=VOCAB),
        sequence([1], min_new_tokens=1, eos_token_ids=(39,), logit_bias={39: 50.0}),
    ]
    logits = torch.arange(VOCAB).float()
    rows_of_all = choice_rows(ends_of(rows), no_counts(), VOCAB)  # holds what the addresses point to
    choices = choices_of(rows_of_all)
    assert (choices["mask"] != 0).tolist() == [False, True, True, True, True]
    assert choices["num_edits"].tolist() == [0, 1, 1, 0, 1]
    left = limited(logits, choices[1])
    assert left.isfinite().nonzero().flatten().tolist() == [3, 8, 9]
    assert left[8] == 9.5
    assert limited(logits, choices[2]).isinf().nonzero().flatten().tolist() == [39]
    expected = sample(logits.expand(5, -1), sampling_rows(ends_of(rows), no_counts(), VOCAB))
    assert (
        largest(logits.expand(5, -1), rows_of_all, no_counts()).tolist()
        == expected.tolist()
        == [39, 8, 38, 7, 38]
    )


def test_a_limit_that_is_over_brings_no_numbers() -> None:
    one = sequence([1], min_new_tokens=1, eos_token_ids=(39,))
    one.token_ids.append(5)
    assert choice_rows(ends_of([one]), no_counts(), VOCAB).choices_SC is None


def test_a_row_of_a_sequence_that_has_ended_asks_for_nothing() -> None:
    gone = held([3], vocab=VOCAB, logit_bias={8: 1.5}, presence_penalty=1.0)
    gone.has_ended = True
    counts = no_counts()
    assert choice_rows(ends_of([gone]), counts, VOCAB).choices_SC is None
    rows = sampling_rows(ends_of([gone]), counts, VOCAB)
    assert (rows.masks, rows.edits, rows.penalties) == (None, None, None)
    assert gone.grammar.asked == []  # type: ignore[union-attr]
