"""The choice of tokens against the torch sampler: not close but equal, on equal logits."""

import math

import pytest
import torch

from engines.noise import gumbel_noise, noise_key
from engines.sampling import first_argmax
from engines.turbomind.ops.choose_token import choose_token

INF = math.inf


def plainly(
    logits: torch.Tensor, temperature: torch.Tensor, cut: torch.Tensor, keys: torch.Tensor
) -> torch.Tensor:
    best = logits.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
    y = (logits - best) / temperature.clamp(min=1e-6)[:, None]
    drawn = first_argmax(torch.where(y < cut[:, None], -INF, y + gumbel_noise(keys, logits.shape[1])))
    return torch.where(temperature > 0, drawn, first_argmax(logits))


def rows(gpu, temperatures: list[float], cuts: list[float]) -> tuple[torch.Tensor, ...]:
    keys = torch.tensor([noise_key(seed, 3) for seed in range(len(temperatures))], device=gpu.device)
    return (
        torch.tensor(temperatures, device=gpu.device),
        torch.tensor(cuts, device=gpu.device),
        keys,
    )


@pytest.mark.parametrize("vocab", [1, 1023, 3001])
def test_tokens_are_those_of_the_torch_sampler(gpu, vocab: int) -> None:
    how = rows(gpu, [0.0, 1.0, 0.7, 1e-9, 5.0, 1.0], [-INF, -INF, -2.0, -INF, -0.5, 0.0])
    logits = 4 * torch.randn(6, vocab, device=gpu.device)
    assert choose_token(gpu, logits, *how).tolist() == plainly(logits, *how).tolist()


@pytest.mark.gpu
def test_tokens_are_those_of_the_torch_sampler_at_model_sizes(cuda_gpu) -> None:
    num = 300
    how = rows(cuda_gpu, [i % 4 * 0.4 for i in range(num)], [-INF if i % 3 else -3.0 for i in range(num)])
    logits = 4 * torch.randn(num, 92553, device=cuda_gpu.device)
    assert torch.equal(choose_token(cuda_gpu, logits, *how), plainly(logits, *how))


def test_ties_go_to_the_lowest_id_and_nan_is_told(gpu) -> None:
    how = rows(gpu, [0.0, 0.0, 0.0, 1.0], [-INF] * 4)
    logits = torch.zeros(4, 2000, device=gpu.device)
    logits[0, [700, 1900]] = 1.0
    logits[1] = -INF
    logits[2, 5] = math.nan
    logits[3, 1999] = math.nan
    assert choose_token(gpu, logits, *how).tolist() == [700, 0, 2000, 2000]


def test_a_draw_never_takes_what_is_masked(gpu) -> None:
    how = rows(gpu, [2.0] * 8, [-INF] * 8)
    logits = torch.full((8, 100), -INF, device=gpu.device)
    logits[:, [17, 60]] = 0.5
    assert set(choose_token(gpu, logits, *how).tolist()) <= {17, 60}


def test_no_rows_give_no_tokens(gpu) -> None:
    assert choose_token(
        gpu, torch.empty(0, 5, device=gpu.device), *(x[:0] for x in rows(gpu, [0.0], [0.0]))
    ).shape == (0,)
