"""The choice of tokens against the torch sampler: not close but equal, on equal logits."""

import math
from typing import Any

import pytest
import torch
from sequences import ends_of, sequence

from engines.sampling.next_token import sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.plain_rows import CHOICE_WORDS, plain_rows
from engines.sampling.sampling_rows import sampling_rows
from engines.turbomind.ops.choose_token import choose_token

INF = math.inf
HOW: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0},
    {"temperature": 0.7, "min_p": 0.1},
    {"temperature": 1e-9},
    {"temperature": 5.0, "min_p": 0.6},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 2.0, "top_k": 1},
    {"temperature": 2.0, "top_k": 40},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 3.0, "top_p": 0.999},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 500, "top_p": 0.95, "min_p": 0.01},
    {"temperature": 1.0, "top_p": 0.0},
    {"temperature": 1.0, "top_k": 512},
    {"temperature": 5.0, "top_k": 513, "top_p": 0.9},
    {"repetition_penalty": 1.5},
    {"presence_penalty": 2.0, "frequency_penalty": 0.7},
    {"temperature": 1.0, "repetition_penalty": 0.8, "frequency_penalty": -0.5, "top_k": 40, "top_p": 0.8},
]


def chosen(gpu, logits: torch.Tensor, how: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the tokens of the kernel and those of the sampler."""
    vocab = logits.shape[1]
    likely = logits.float().nan_to_num(-INF).topk(min(4, vocab)).indices.tolist()
    sequences = [
        sequence([best[0]], seed=seed, **one)
        for seed, (one, best) in enumerate(zip(how, likely, strict=True))
    ]
    for one, best in zip(sequences, likely, strict=True):
        one.token_ids += [*best, best[-1]]  # put out: the likeliest, one of them twice
    chunks = ends_of(sequences)
    counts, others = (TokenCounts(max_sequences=len(how), vocab=vocab, device=gpu.device) for _ in range(2))
    plain = plain_rows(chunks, counts, vocab)
    assert plain is not None
    choices = plain.choices_S6
    if choices is None:
        choices = torch.zeros(len(how), CHOICE_WORDS, dtype=torch.int64, device=gpu.device)
    wanted = sample(logits, sampling_rows(chunks, others, vocab)).ids_S
    seen, outputs = counts.tables()
    return choose_token(gpu, logits, choices, seen_NV=seen, outputs_NV=outputs).tolist(), wanted.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [1, 1023, 3001])
def test_tokens_are_those_of_the_torch_sampler(gpu, vocab: int, dtype: torch.dtype) -> None:
    found, wanted = chosen(gpu, (4 * torch.randn(len(HOW), vocab, device=gpu.device)).to(dtype), HOW)
    assert found == wanted


def test_rows_may_be_apart_as_those_of_a_padded_head_are(gpu) -> None:
    padded = (4 * torch.randn(len(HOW), 1024, device=gpu.device)).to(torch.bfloat16)
    padded[:, 1001:] = 100
    found, wanted = chosen(gpu, padded[:, :1001], HOW)
    assert found == wanted


@pytest.mark.parametrize("value", [0.0, -INF])
def test_more_equal_logits_than_a_list_holds_are_cut_alike(gpu, value: float) -> None:
    """A tie at the border of a cut is kept whole, however many take part in it."""
    logits = torch.full((len(HOW), 3000), value, device=gpu.device)
    logits[:, 2999] = 0.5
    found, wanted = chosen(gpu, logits, HOW)
    assert found == wanted


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_those_of_the_torch_sampler_at_model_sizes(cuda_gpu, dtype: torch.dtype) -> None:
    """Sums of probabilities are rounded otherwise: a border of top_p may lie a token apart, seldom drawn."""
    how = [HOW[i % len(HOW)] for i in range(20 * len(HOW))]
    logits = (4 * torch.randn(len(how), 92608, device=cuda_gpu.device)).to(dtype)[:, :92553]
    found, wanted = chosen(cuda_gpu, logits, how)
    assert sum(a != b for a, b in zip(found, wanted, strict=True)) <= 1


def test_ties_go_to_the_lowest_id_and_nan_is_told(gpu) -> None:
    logits = torch.zeros(4, 2000, device=gpu.device)
    logits[0, [700, 1900]] = 1.0
    logits[1] = -INF
    logits[2, 5] = math.nan
    logits[3, 1999] = math.nan
    found, wanted = chosen(gpu, logits, [{}, {}, {}, {"temperature": 1.0}])
    assert found == wanted == [700, 0, 2000, 2000]


def test_a_draw_never_takes_what_is_masked(gpu) -> None:
    logits = torch.full((8, 100), -INF, device=gpu.device)
    logits[:, [17, 60]] = 0.5
    found, _ = chosen(gpu, logits, [{"temperature": 2.0}] * 8)
    assert set(found) <= {17, 60}


def test_no_rows_give_no_tokens(gpu) -> None:
    none = torch.empty(0, CHOICE_WORDS, dtype=torch.int64, device=gpu.device)
    seen, outputs = TokenCounts(max_sequences=1, vocab=5, device=gpu.device).tables()
    logits = torch.empty(0, 5, device=gpu.device)
    assert choose_token(gpu, logits, none, seen_NV=seen, outputs_NV=outputs).shape == (0,)
