"""Quantized linear layers in plain torch against their formulas in double precision."""

import pytest
import torch

from engines.ops import Fp8, Int8
from engines.pytorch.linear import linear, quantize_rows_fp8, quantize_rows_int8
from engines.pytorch.ops_torch import TorchOps
from engines.quant.int4_tiles import dequantize, linear_int4

ROUNDED_ONCE = {
    torch.float32: 2e-6,
    torch.bfloat16: 3e-3,
    torch.float16: 4e-4,
}  # half an ulp, and sums of fp32


def assert_close(got: torch.Tensor, exact: torch.Tensor) -> None:
    assert got.shape == exact.shape
    error = (got.double() - exact).norm() / exact.norm()
    assert error < ROUNDED_ONCE[got.dtype]


@pytest.mark.parametrize("dtype", list(ROUNDED_ONCE))
def test_int4_multiplies_the_inputs_in_the_order_of_its_permutation(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 16, (24, 128), dtype=torch.uint8)
    perm, bias, x = torch.randperm(128), torch.randn(24).to(dtype), torch.randn(2, 3, 128).to(dtype)
    scales, zeros = torch.rand(4, 24).half(), torch.randint(0, 17, (4, 24), dtype=torch.uint8)
    layer = linear_int4(codes, scales_GO=scales, zeros_GO=zeros, perm_I=perm, bias_O=bias)
    weight = torch.empty(24, 128, dtype=torch.float64)
    weight[:, perm] = dequantize(layer, dtype).double()
    assert_close(TorchOps().linear(x, layer), x.double() @ weight.T + bias.double())


@pytest.mark.parametrize("dtype", list(ROUNDED_ONCE))
def test_fp8_scales_rows_and_outputs(dtype: torch.dtype) -> None:
    weight, scale = torch.randn(10, 64).to(torch.float8_e4m3fn), torch.rand(10)
    x, bias = torch.randn(2, 3, 64).to(dtype) * 30, torch.randn(10).to(dtype)
    row_scale = x.double().abs().amax(-1, keepdim=True) / 448
    code = (x.float() / row_scale.float()).to(torch.float8_e4m3fn).double()
    exact = code @ weight.double().T * row_scale * scale.double() + bias.double()
    assert_close(linear(x, Fp8(weight_OI=weight, scale_O=scale, bias_O=bias)), exact)


@pytest.mark.parametrize("dtype", list(ROUNDED_ONCE))
def test_int8_scales_rows_and_outputs(dtype: torch.dtype) -> None:
    weight, scale = torch.randint(-127, 128, (10, 64), dtype=torch.int8), torch.rand(10)
    x = torch.randn(2, 3, 64).to(dtype) * 30
    row_scale = x.double().abs().amax(-1, keepdim=True) / 127
    code = (x.float() / row_scale.float()).round().double()
    exact = code @ weight.double().T * row_scale * scale.double()
    assert_close(linear(x, Int8(weight_OI=weight, scale_O=scale, bias_O=None)), exact)


def test_a_row_of_zeros_is_quantized_to_zeros() -> None:
    for quantize in (quantize_rows_fp8, quantize_rows_int8):
        codes, scale = quantize(torch.zeros(2, 8))
        assert not codes.float().any() and torch.isfinite(scale).all() and (scale > 0).all()


def test_the_largest_of_a_row_takes_the_largest_code() -> None:
    x = torch.randn(5, 32)
    assert (quantize_rows_fp8(x)[0].float().abs().amax(-1) == 448).all()
    assert (quantize_rows_int8(x)[0].int().abs().amax(-1) == 127).all()
