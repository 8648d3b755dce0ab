"""Rows as 8-bit codes: the torch twin's codes and scales."""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.linear import quantize_rows_fp8, quantize_rows_int8
from engines.turbomind.ops.activation import silu_mul
from engines.turbomind.ops.norm import add_rms_norm
from engines.turbomind.ops.quantize_rows import (
    add_rms_norm_codes,
    quantize_rows,
    row_threads,
    silu_mul_codes,
)

TWINS = {torch.float8_e4m3fn: quantize_rows_fp8, torch.int8: quantize_rows_int8}


@pytest.mark.parametrize("shape", [(1, 8), (3, 264), (2, 5, 2064)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("code", list(TWINS))
def test_rows_get_the_twins_codes_and_scales(gpu, code, dtype, shape) -> None:
    x = torch.randn(*shape, dtype=dtype, device=gpu.device) * 10
    wanted_codes, wanted_scale = TWINS[code](x)
    codes, scale = quantize_rows(gpu, x, code)
    assert torch.equal(codes.float(), wanted_codes.float().view(codes.shape))
    assert torch.equal(scale, wanted_scale.flatten())


@pytest.mark.parametrize("code", list(TWINS))
def test_zeros_and_ties_are_rounded_as_by_the_twin(gpu, code) -> None:
    x = torch.zeros(3, 16, dtype=torch.bfloat16, device=gpu.device)
    x[1] = torch.arange(16) - 7.5
    x[2, 5] = 448.0
    codes, _ = quantize_rows(gpu, x, code)
    assert torch.equal(codes.float(), TWINS[code](x)[0].float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("code", list(TWINS))
def test_codes_behind_a_gate_are_those_of_the_two_kernels_in_turn(gpu, code, dtype) -> None:
    gate_up = 3 * torch.randn(3, 2 * 1032, dtype=dtype, device=gpu.device)
    codes, scale = silu_mul_codes(gpu, gate_up, code)
    wanted_codes, wanted_scale = quantize_rows(gpu, silu_mul(gpu, gate_up), code)
    assert torch.equal(codes.float(), wanted_codes.float()) and torch.equal(scale, wanted_scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("code", list(TWINS))
@pytest.mark.parametrize("num_rows", [3, 7])  # a row an SM; more
def test_codes_of_normed_sums_are_those_of_the_two_kernels_in_turn(gpu, num_rows, code, dtype) -> None:
    x, residual = (torch.randn(num_rows, 2 * 1032, dtype=dtype, device=gpu.device) for _ in range(2))
    weight = torch.randn(2 * 1032, dtype=dtype, device=gpu.device)
    codes, scale, total = add_rms_norm_codes(gpu, x, residual, weight, 1e-5, code)
    normed, wanted_total = add_rms_norm(gpu, x, residual, weight, 1e-5)
    wanted_codes, wanted_scale = quantize_rows(gpu, normed, code)
    assert torch.equal(total, wanted_total)
    # The squares are summed in another order: a normed value may round to its neighbour.
    torch.testing.assert_close(scale, wanted_scale, rtol=2**-7, atol=0)
    same = (codes.float() == wanted_codes.float()).float().mean()
    assert same > 0.99
    torch.testing.assert_close(codes.float(), wanted_codes.float(), rtol=2**-3, atol=1)


def test_blocks_share_an_sm_where_rows_are_many() -> None:
    assert [row_threads(hidden, num_rows=64, num_sms=132) for hidden in (8, 4096, 14336)] == [32, 512, 896]
    assert [row_threads(hidden, num_rows=8192, num_sms=132) for hidden in (8, 4096, 14336)] == [32, 256, 256]
    assert row_threads(28672, num_rows=8192, num_sms=132) == 448
    assert row_threads(14336, num_rows=256, num_sms=132) == 448  # two rows an SM
    with pytest.raises(KernelError, match=r"codes of 100 elements: rows must be a multiple of 8"):
        row_threads(100, num_rows=1, num_sms=1)


def test_all_faults_of_the_operands_are_named_at_once(gpu) -> None:
    x = torch.zeros(2, 64, dtype=torch.bfloat16, device=gpu.device)
    with pytest.raises(
        KernelError, match=r"`residual` is \[1, 64\], not \[2, 64\]; `weight` is torch.float32"
    ):
        add_rms_norm_codes(gpu, x, x[:1], torch.zeros(64, device=gpu.device), 1e-5, torch.int8)


def test_codes_of_another_type_are_refused(gpu) -> None:
    with pytest.raises(KernelError, match=r"must be one of torch\.float8_e4m3fn, torch\.int8"):
        quantize_rows(gpu, torch.zeros(1, 8, dtype=torch.bfloat16, device=gpu.device), torch.uint8)
