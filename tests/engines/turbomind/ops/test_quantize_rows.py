"""Rows as 8-bit codes: the torch twin's codes and scales."""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.linear import quantize_rows_fp8, quantize_rows_int8
from engines.turbomind.ops.quantize_rows import quantize_rows

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


def test_codes_of_another_type_are_refused(gpu) -> None:
    with pytest.raises(KernelError, match=r"must be one of torch\.float8_e4m3fn, torch\.int8"):
        quantize_rows(gpu, torch.zeros(1, 8, dtype=torch.bfloat16, device=gpu.device), torch.uint8)
