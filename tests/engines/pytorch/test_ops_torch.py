"""The ops on rows, the rotation and the store of the torch table, against their formulas in fp64."""

import math

import pytest
import torch
from seeded import randn
from torch import Tensor

from engines.ops import Dense, KvLayer
from engines.pytorch.ops_torch import TorchOps

OPS = TorchOps()
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def assert_rounded(actual: Tensor, exact: Tensor, dtype: torch.dtype, *, ulps: float) -> None:
    """The result has the dtype, and differs from the exact one by a few units in the last place of it."""
    assert actual.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(actual.double(), exact, atol=ulps * eps, rtol=ulps * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embed_takes_rows(dtype: torch.dtype) -> None:
    table = randn(7, 4, dtype=dtype)
    assert torch.equal(OPS.embed(table, torch.tensor([3, 0, 6, 3])), table[[3, 0, 6, 3]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_is_its_formula_with_fp32_statistics(dtype: torch.dtype) -> None:
    x, weight = randn(5, 48, dtype=dtype) * 30, randn(48, seed=1, dtype=dtype)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert_rounded(OPS.rms_norm(x, weight, 1e-5), exact, dtype, ulps=2)


def test_rms_norm_rounds_before_it_multiplies() -> None:
    x, weight = randn(9, 64, dtype=torch.bfloat16), randn(64, seed=1, dtype=torch.bfloat16)
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).bfloat16()
    assert torch.equal(OPS.rms_norm(x, weight, 1e-6), normed * weight)


def test_a_large_fp16_row_does_not_overflow_its_norm() -> None:
    x = torch.full((1, 8), 60000.0, dtype=torch.float16)
    assert torch.equal(OPS.rms_norm(x, torch.ones(8).half(), 1e-5), torch.ones(1, 8).half())


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_rms_norm_also_returns_the_sum(dtype: torch.dtype) -> None:
    x, residual, weight = (
        randn(5, 32, dtype=dtype),
        randn(5, 32, seed=2, dtype=dtype),
        randn(32, seed=1, dtype=dtype),
    )
    normed, total = OPS.add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, OPS.rms_norm(x + residual, weight, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_is_its_formula(dtype: torch.dtype) -> None:
    x, weight, bias = (
        randn(2, 3, 40, dtype=dtype),
        randn(40, seed=1, dtype=dtype),
        randn(40, seed=2, dtype=dtype),
    )
    wide = x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    exact = (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double() + bias.double()
    )
    assert_rounded(OPS.layer_norm(x, weight, bias, 1e-6), exact, dtype, ulps=4)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_is_its_formula(dtype: torch.dtype, has_bias: bool) -> None:
    x, weight = randn(2, 3, 24, dtype=dtype), randn(10, 24, seed=1, dtype=dtype)
    bias = randn(10, seed=2, dtype=dtype) if has_bias else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert_rounded(OPS.linear(x, Dense(weight_OI=weight, bias_O=bias)), exact, dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_mul_gates_the_second_half_by_the_first(dtype: torch.dtype) -> None:
    both = randn(5, 12, dtype=dtype)
    gate, up = both[:, :6].double(), both[:, 6:].double()
    assert_rounded(OPS.silu_mul(both), gate / (1 + (-gate).exp()) * up, dtype, ulps=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_is_the_exact_one(dtype: torch.dtype) -> None:
    x = randn(50, dtype=dtype)
    wide = x.double()
    assert_rounded(OPS.gelu(x), 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2))), dtype, ulps=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_other_gelus_are_their_formulas(dtype: torch.dtype) -> None:
    x = randn(50, dtype=dtype)
    wide = x.double()
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    assert_rounded(OPS.gelu_tanh(x), 0.5 * wide * (1 + torch.tanh(inner)), dtype, ulps=2)
    assert_rounded(OPS.quick_gelu(x), wide / (1 + (-1.702 * wide).exp()), dtype, ulps=4)


@pytest.mark.parametrize("num_rotary", [8, 3])
def test_rope_rotates_half_split_pairs_and_passes_the_rest(num_rotary: int) -> None:
    q, k = randn(4, 3, 16), randn(4, 2, 16, seed=1)
    angles = randn(4, num_rotary, seed=2)
    for x, rotated in zip((q, k), OPS.rope(q, k, angles.cos(), angles.sin()), strict=True):
        pairs = torch.complex(x[..., :num_rotary], x[..., num_rotary : 2 * num_rotary])
        turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
        wanted = torch.cat([turned.real, turned.imag, x[..., 2 * num_rotary :]], -1)
        torch.testing.assert_close(rotated, wanted)


def test_rope_computes_in_fp32_and_returns_the_dtype_of_its_input() -> None:
    q, k, angles = randn(4, 3, 16), randn(4, 2, 16), randn(4, 8) * 100
    narrow, _ = OPS.rope(q.bfloat16(), k.bfloat16(), angles.cos(), angles.sin())
    wide, _ = OPS.rope(q.bfloat16().float(), k, angles.cos(), angles.sin())
    assert torch.equal(narrow, wide.bfloat16())


def test_store_kv_writes_its_slots_and_no_others() -> None:
    layer = KvLayer(keys_PKTD=torch.zeros(5, 2, 4, 3), values_PKTD=torch.zeros(5, 2, 4, 3))
    k, v, slots = randn(3, 2, 3), randn(3, 2, 3, seed=1), torch.tensor([18, 0, 7])
    OPS.store_kv(k, v, layer, slots)
    for pages, rows in ((layer.keys_PKTD, k), (layer.values_PKTD, v)):
        for row, slot in zip(rows, slots.tolist(), strict=True):
            assert torch.equal(pages[slot // 4, :, slot % 4], row)
        assert pages.abs().sum() == pytest.approx(rows.abs().sum())
