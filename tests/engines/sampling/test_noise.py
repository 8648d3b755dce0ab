import math

import pytest
import torch

from engines.sampling.noise import _splitmix64, gumbel_noise, noise_key, noise_keys

MASK_32, MASK_64 = (1 << 32) - 1, (1 << 64) - 1


def fmix32(x: int) -> int:
    x = (x ^ x >> 16) * 0x85EBCA6B & MASK_32
    x = (x ^ x >> 13) * 0xC2B2AE35 & MASK_32
    return x ^ x >> 16


def plain_noise(seed: int, position: int, token: int) -> float:
    """The recipe of the module in plain integers."""
    low, high = noise_key(seed, position)
    h = fmix32(fmix32((token * 0x9E3779B9 + low) & MASK_32) ^ high)
    uniform = min((h + 0.5) * 2.0**-32, 1 - 2**-24)
    return -math.log(-math.log1p(-uniform))


def keys(pairs: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([noise_key(seed, position) for seed, position in pairs])


def test_the_keys_are_splitmix64() -> None:
    # First outputs of the generator with state 0: https://prng.di.unimi.it/splitmix64.c
    low, high = noise_key(0, 0)
    assert noise_key(0, 0) == noise_key(1 << 64, 0)
    assert 0 <= low <= MASK_32 and 0 <= high <= MASK_32
    assert _splitmix64(0) == 0xE220A8397B1DCDAF
    assert _splitmix64(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_keys_of_many_rows_are_those_of_each() -> None:
    seeds, positions = [0, 1, -1, 2**63, 2**64 - 1, 1 << 70], [0, 5, 77, 2**31, 3, 9]
    wanted = [list(noise_key(seed, position)) for seed, position in zip(seeds, positions, strict=True)]
    assert noise_keys(seeds, positions).tolist() == wanted


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 2**64 - 1, 123456789])
def test_the_tensor_form_follows_the_recipe(seed: int) -> None:
    noise = gumbel_noise(keys([(seed, 0), (seed, 77)]), vocab=300)
    for row, position in enumerate((0, 77)):
        expected = [plain_noise(seed, position, token) for token in range(300)]
        # float32 is coarse where v is near 1, that is for the smallest noise
        torch.testing.assert_close(noise[row], torch.tensor(expected), rtol=3e-6, atol=1e-4)


def test_noise_is_finite_for_a_large_vocabulary() -> None:
    assert gumbel_noise(keys([(seed, 0) for seed in range(20)]), vocab=150_000).isfinite().all()


def test_noise_has_the_mean_and_variance_of_gumbel() -> None:
    noise = gumbel_noise(keys([(seed, seed % 7) for seed in range(40)]), vocab=10_000).double()
    assert noise.mean().item() == pytest.approx(0.57722, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_neighbours_in_seed_position_and_token_are_not_correlated() -> None:
    by_seed = gumbel_noise(keys([(0, 0), (1, 0), (0, 1), (1 << 32, 0)]), vocab=50_000)
    shifted = torch.cat([by_seed, by_seed[:1].roll(1)])
    correlation = torch.corrcoef(shifted) - torch.eye(5)
    assert correlation.abs().max().item() < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_noise_is_the_same_on_the_gpu() -> None:
    some = keys([(seed, seed) for seed in range(8)])
    cpu, gpu = gumbel_noise(some, vocab=100_000), gumbel_noise(some.cuda(), vocab=100_000).cpu()
    torch.testing.assert_close(cpu, gpu, rtol=2e-6, atol=2e-6)
