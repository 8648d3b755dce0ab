"""The choice of tokens against the torch sampler: not close but equal, on equal logits."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from allowing import Allowing
from sequences import ends_of, sequence

from engines.sampling.choice_rows import CHOICE_WORDS, choice_rows
from engines.sampling.next_token import sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.sampling_rows import sampling_rows
from engines.schedule.sequence import Sequence
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
BIASED = {0: 9.0, 3: -2.5, 31: 4.0, 64: 5.5, 1022: 6.0}
# `allowed`: how many ids a grammar leaves, some of them side by side.
LIMITED: list[dict[str, Any]] = [
    {"allowed": 1},
    {"allowed": 300},
    {"allowed": 3, "temperature": 1.0, "top_k": 40, "top_p": 0.8},
    {"allowed": 60, "temperature": 3.0, "top_k": 40, "top_p": 0.9},
    {"allowed": 700, "temperature": 2.0, "top_k": 520, "top_p": 0.9},
    {"allowed": 300, "temperature": 2.0, "top_k": 520, "top_p": 0.5},
    {"allowed": 300, "temperature": 1.0, "top_p": 0.7},
    {"allowed": 2000, "temperature": 1.0, "min_p": 0.1},
    {"allowed": 0},
    {"allowed": 0, "temperature": 1.0, "top_k": 5},
    {"logit_bias": BIASED},
    {"logit_bias": BIASED, "temperature": 2.0, "top_k": 7},
    {"logit_bias": BIASED, "temperature": 2.0, "top_p": 0.9},
    {"logit_bias": BIASED, "allowed": 40, "temperature": 1.0},
    {"logit_bias": BIASED, "repetition_penalty": 1.5, "allowed": 900, "temperature": 1.0, "top_k": 40},
    {"min_new_tokens": 99, "stop_token_ids": (0, 2, 5000), "eos_token_ids": (7,)},
    {"bad_sequences": ((0,), (64,)), "logit_bias": BIASED, "temperature": 1.0},
]


def asking(
    prompt: int,
    vocab: int,
    *,
    allowed: int | None = None,
    logit_bias: Mapping[int, float] = MappingProxyType({}),
    **how: Any,
) -> Sequence:
    """Return a sequence of this prompt, its biases cut to the vocabulary."""
    biases = {token: value for token, value in logit_bias.items() if token < vocab}
    one = sequence([prompt], logit_bias=biases, **how)
    if allowed is not None:
        ids = {(i * 37 % 64 + i // 16 * 61) % vocab for i in range(allowed)}
        one.grammar = Allowing(ids, vocab=vocab)  # type: ignore[assignment]
    return one


def chosen(gpu, logits: torch.Tensor, how: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the tokens of the kernel and those of the sampler."""
    vocab = logits.shape[1]
    likely = logits.float().nan_to_num(-INF).topk(min(4, vocab)).indices.tolist()
    sequences = [
        asking(best[0], vocab, seed=seed, **one)
        for seed, (one, best) in enumerate(zip(how, likely, strict=True))
    ]
    for one, best in zip(sequences, likely, strict=True):
        one.token_ids += [*best, best[-1]]  # put out: the likeliest, one of them twice
    chunks = ends_of(sequences)
    counts, others = (TokenCounts(max_sequences=len(how), vocab=vocab, device=gpu.device) for _ in range(2))
    choices = choice_rows(chunks, counts, vocab).choices_SC
    if choices is None:
        choices = torch.zeros(len(how), CHOICE_WORDS, dtype=torch.int64, device=gpu.device)
    wanted = sample(logits, sampling_rows(chunks, others, vocab))
    seen, outputs = counts.tables()
    return choose_token(gpu, logits, choices, seen_NV=seen, outputs_NV=outputs).tolist(), wanted.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [1, 1023, 3001])
def test_tokens_are_those_of_the_torch_sampler(gpu, vocab: int, dtype: torch.dtype) -> None:
    found, wanted = chosen(gpu, (4 * torch.randn(len(HOW), vocab, device=gpu.device)).to(dtype), HOW)
    assert found == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [1, 1023, 3001])
def test_limited_rows_take_the_tokens_of_the_torch_sampler(gpu, vocab: int, dtype: torch.dtype) -> None:
    """Plain rows stand between them, and take theirs."""
    how = [one for limited in LIMITED for one in (limited, {}, {**limited, "temperature": 4.0})]
    found, wanted = chosen(gpu, (4 * torch.randn(len(how), vocab, device=gpu.device)).to(dtype), how)
    assert found == wanted


@pytest.mark.parametrize(("allowed", "top_k", "vocab"), [(3, 40, 300), (200, 600, 2000)])
def test_ids_that_may_not_come_have_no_share_of_top_p(gpu, allowed: int, top_k: int, vocab: int) -> None:
    """Of fewer ids than top_k, about as likely each: the unlikelier half is never drawn."""
    how = {"allowed": allowed, "temperature": 1.0, "top_k": top_k, "top_p": 0.5}
    logits = torch.linspace(1.0, 0.0, vocab, device=gpu.device).expand(24, -1)
    found, wanted = chosen(gpu, logits.contiguous(), [how] * 24)
    assert found == wanted


def test_a_masked_nan_does_not_count_and_an_edited_one_does(gpu) -> None:
    logits = torch.zeros(3, 100, device=gpu.device)
    logits[:, 64] = math.nan
    how = [{"allowed": 3}, {"logit_bias": {64: 1.0}}, {"bad_sequences": ((64,),)}]
    found, wanted = chosen(gpu, logits, how)
    assert found == wanted == [0, 100, 100]


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
    ways = [*HOW, *LIMITED]
    how = [ways[i % len(ways)] for i in range(20 * len(ways))]
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
