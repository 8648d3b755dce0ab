"""Rows as 8-bit codes: the torch twin's codes and scales."""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.linear import quantize_rows_fp8, quantize_rows_int8
from engines.turbomind.ops.activation import silu_mul
from engines.turbomind.ops.quantize_rows import quantize_rows, silu_mul_codes

TWINS = {torch.float8_e4m3fn: quantize_rows_fp8, torch.int8: quantize_rows_int8}


@pytest.mark.parametrize("shape", [(1, 8), (3, 264), (2, 5, 1032)], ids=str)
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


def test_codes_of_another_type_are_refused(gpu) -> None:
    with pytest.raises(KernelError, match=r"must be one of torch\.float8_e4m3fn, torch\.int8"):
        quantize_rows(gpu, torch.zeros(1, 8, dtype=torch.bfloat16, device=gpu.device), torch.uint8)
