"""Products that are dealt out evenly: every kind of weight against its twin, over awkward shapes."""

import pytest
import torch
from paged_attention import relative_error
from torch.nn.functional import silu

from engines.ops import Dense, Fp8, Int8
from engines.pytorch.linear import linear, quantize_rows_fp8, quantize_rows_int8
from engines.turbomind.ops.linear_even import fits, linear_even, linear_even_codes

BF16, FP16 = torch.bfloat16, torch.float16
# dtype, rows, outputs, inputs: the emulated GPU has three SMs, so blocks share 1, 2, 4 and 5 tiles;
# inputs and outputs that end inside a box; a row, rows of both sizes
SHAPES = [
    (BF16, 1, 24, 40),
    (FP16, 130, 264, 328),
    (BF16, 67, 392, 520),
    (BF16, 150, 136, 200),
    (BF16, 256, 600, 264),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def dense(gpu, dtype: torch.dtype, outputs: int, inputs: int) -> Dense:
    weight_OI = torch.randn(outputs, inputs, dtype=dtype, device=gpu.device) * inputs**-0.5
    return Dense(weight_OI=weight_OI, bias_O=torch.randn(outputs, dtype=dtype, device=gpu.device))


def codes(gpu, kind: str, outputs: int, inputs: int) -> Fp8 | Int8:
    weight = torch.randn(outputs, inputs, device=gpu.device)
    scale = (torch.rand(outputs, device=gpu.device) + 0.5) * inputs**-0.5
    bias = torch.randn(outputs, dtype=BF16, device=gpu.device)
    if kind == "fp8":
        return Fp8(weight_OI=weight.to(torch.float8_e4m3fn), scale_O=scale, bias_O=bias)
    return Int8(weight_OI=(40 * weight).clamp(-127, 127).to(torch.int8), scale_O=scale / 40, bias_O=bias)


def gated(y_T2F: torch.Tensor) -> torch.Tensor:
    gate_TF, up_TF = y_T2F.chunk(2, dim=-1)
    return silu(gate_TF) * up_TF


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_that_share_tiles_give_the_product(hopper, shape, gate: bool) -> None:
    dtype, num_rows, outputs, inputs = shape
    outputs = outputs // 16 * 16 if gate else outputs
    x, layer = (
        torch.randn(num_rows, inputs, dtype=dtype, device=hopper.device),
        dense(hopper, dtype, outputs, inputs),
    )
    wanted = torch.nn.functional.linear(x.float(), layer.weight_OI.float(), layer.bias_O.float()).to(dtype)
    for _ in range(2):  # the first has left its flags as it found them
        got = linear_even(hopper, x, layer, gated=gate)
        assert relative_error(got, (gated(wanted) if gate else wanted).float()) < (
            6e-3 if dtype is BF16 else 8e-4
        )


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("shape", [(9, 64, 160), (140, 400, 656)], ids=str)
@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_codes_give_the_twins_product(hopper, kind: str, shape, gate: bool) -> None:
    num_rows, outputs, inputs = shape
    x, layer = (
        torch.randn(num_rows, inputs, dtype=BF16, device=hopper.device),
        codes(hopper, kind, outputs, inputs),
    )
    codes_TI, scale_T1 = (quantize_rows_fp8 if kind == "fp8" else quantize_rows_int8)(x)
    wanted = linear(x, layer)
    got = linear_even_codes(hopper, codes_TI, scale_T1[:, 0].contiguous(), layer, BF16, gated=gate)
    assert relative_error(got, (gated(wanted) if gate else wanted).float()) < 8e-3


def test_what_the_kernel_cannot_take_is_told_apart(hopper) -> None:
    def layer(outputs: int, inputs: int) -> Dense:
        return Dense(weight_OI=torch.zeros(outputs, inputs, dtype=BF16), bias_O=None)

    assert fits(hopper, 256, BF16, layer(8, 8))
    assert not fits(hopper, 257, BF16, layer(8, 8))
    assert not fits(hopper, 0, BF16, layer(8, 8))
    assert not fits(hopper, 1, torch.float32, layer(8, 8))
    assert not fits(hopper, 1, BF16, layer(12, 8))
    assert not fits(hopper, 1, BF16, layer(8, 12))
    assert fits(hopper, 1, BF16, layer(16, 8), gated=True)
    assert not fits(hopper, 1, BF16, layer(24, 8), gated=True)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 128, 200, 256])
@pytest.mark.parametrize("layer", [(6144, 4096), (4096, 14336), (28672, 4096), (1152, 896)], ids=str)
def test_layers_of_shipped_models_give_the_product(cuda_gpu, layer, num_rows: int) -> None:
    if cuda_gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    x, weight = torch.randn(num_rows, layer[1], dtype=BF16, device="cuda"), dense(cuda_gpu, BF16, *layer)
    for gate in (False, True):
        wanted = torch.nn.functional.linear(x.float(), weight.weight_OI.float(), weight.bias_O.float()).to(
            BF16
        )
        got = linear_even(cuda_gpu, x, weight, gated=gate)
        assert relative_error(got, (gated(wanted) if gate else wanted).float()) < 6e-3
    for kind in ("fp8", "int8"):
        coded = codes(cuda_gpu, kind, *layer)
        codes_TI, scale_T1 = (quantize_rows_fp8 if kind == "fp8" else quantize_rows_int8)(x)
        got = linear_even_codes(cuda_gpu, codes_TI, scale_T1[:, 0].contiguous(), coded, BF16)
        assert relative_error(got, linear(x, coded).float()) < 8e-3
