"""Linear layers of many rows with what follows: every form against the ops apart, over awkward shapes."""

from typing import get_args

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Dense, Gelu
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.linear_rows import fits, linear_rows, takes
from engines.turbomind.ops.rows_cut import RowsCut
from engines.turbomind.ops_table import TurbomindOps

BF16, FP16 = torch.bfloat16, torch.float16
# Both round the product and the result; where sums in another order round the other way it is an ulp, and the
# twin rounds between the ops of a gate.
TOLERANCE = {BF16: 4e-3, FP16: 5e-4}
# dtype, rows, outputs, inputs, columns, stages: outputs that end inside a tile and inside
# 32 of its columns, inputs that end inside a slab, a row past a tile, rings shorter than a product
SHAPES = [
    (BF16, 1, 8, 8, 64, 2),
    (BF16, 129, 72, 136, 64, 2),
    (FP16, 300, 168, 200, 80, 3),
    (BF16, 130, 272, 328, 256, 2),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def operands(device: torch.device, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, dtype=dtype, device=device, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("dtype", "rows", "outputs", "inputs", "columns", "stages"), SHAPES)
def test_a_product_is_that_of_fp32(
    hopper,
    dtype,
    rows: int,
    outputs: int,
    inputs: int,
    columns: int,
    stages: int,
) -> None:
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    cut = RowsCut(columns=columns, stages=stages)
    got = linear_rows(hopper, x, Dense(weight_OI=weight, bias_O=bias), cut=cut)
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    assert relative_error(got, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("form", get_args(Gelu))
def test_a_gelu_is_that_of_the_op_apart(hopper, form: Gelu) -> None:
    x, weight, bias = operands(hopper.device, BF16, (140, 64), (72, 64), (72,))
    layer = Dense(weight_OI=weight, bias_O=bias)
    wanted = TorchOps().linear_gelu(x, layer, form).float()
    assert relative_error(linear_rows(hopper, x, layer, after=form), wanted) < TOLERANCE[BF16]


def test_a_gelu_is_exact_over_the_numbers_that_bf16_has(hopper) -> None:
    x = torch.linspace(-12, 12, 8 * 512, device=hopper.device).to(BF16).view(512, 8)
    identity = Dense(weight_OI=torch.eye(8, dtype=BF16, device=hopper.device), bias_O=None)
    got = linear_rows(hopper, x, identity, after="gelu")
    wanted = torch.nn.functional.gelu(x.double())
    assert torch.allclose(got.double(), wanted, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_sum_is_that_of_the_ops_apart(hopper, scaled: bool) -> None:
    x, weight, scale, residual = operands(hopper.device, BF16, (2, 70, 64), (72, 64), (72,), (2, 70, 72))
    layer, factor = Dense(weight_OI=weight, bias_O=None), scale if scaled else None
    got = linear_rows(hopper, x, layer, after="add", residual_TO=residual, scale_O=factor)
    wanted = TorchOps().linear_add(x, layer, residual, scale_O=factor)
    assert got.shape == (2, 70, 72)
    assert relative_error(got, wanted.float()) < TOLERANCE[BF16]


@pytest.mark.parametrize("rows", [3, 520])
def test_the_table_gives_what_the_ops_apart_give(gpu, rows: int) -> None:
    x, weight, bias, residual = operands(gpu.device, BF16, (rows, 64), (64, 64), (64,), (rows, 64))
    layer, ops = Dense(weight_OI=weight, bias_O=bias), TurbomindOps(gpu)
    gelu, total = ops.linear_gelu(x, layer, "gelu"), ops.linear_add(x, layer, residual)
    assert relative_error(gelu, TorchOps().linear_gelu(x, layer, "gelu").float()) < TOLERANCE[BF16]
    assert relative_error(total, TorchOps().linear_add(x, layer, residual).float()) < TOLERANCE[BF16]


def test_few_rows_and_widths_that_no_copy_takes_are_left_to_the_library(hopper) -> None:
    (x,) = operands(hopper.device, BF16, (600, 64))
    layer = Dense(weight_OI=x[:72].contiguous(), bias_O=None)
    odd = Dense(weight_OI=x[:70].contiguous(), bias_O=None)
    assert takes(layer, hopper, x)
    assert not takes(layer, hopper, x[:500])
    assert not fits(hopper, x, odd)
    long = torch.zeros(600, 4096, dtype=BF16, device=hopper.device)
    assert not takes(Dense(weight_OI=long[:8].contiguous(), bias_O=None), hopper, long)
    assert not fits(hopper, x.float(), layer)


def test_operands_of_the_wrong_shape_are_named(hopper) -> None:
    x, weight, residual = operands(hopper.device, BF16, (10, 64), (72, 64), (10, 64))
    with pytest.raises(KernelError, match=r"`linear_rows`: `residual` is \[10, 64\], not \[10, 72\]"):
        linear_rows(hopper, x, Dense(weight_OI=weight, bias_O=None), after="add", residual_TO=residual)


@pytest.mark.gpu
@pytest.mark.parametrize("tiles", [1, 8])
@pytest.mark.parametrize(("outputs", "inputs"), [(3072, 1024), (4096, 1024), (1024, 4096), (3200, 12800)])
def test_the_layers_of_towers_come_out_right_on_a_gpu(
    cuda_gpu, tiles: int, outputs: int, inputs: int
) -> None:
    x, weight, bias = operands(cuda_gpu.device, BF16, (tiles * 1025, inputs), (outputs, inputs), (outputs,))
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    assert (
        relative_error(linear_rows(cuda_gpu, x, Dense(weight_OI=weight, bias_O=bias)), wanted)
        < TOLERANCE[BF16]
    )
