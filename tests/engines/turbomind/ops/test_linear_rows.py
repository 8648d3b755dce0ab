"""Linear layers of many rows with what follows: every form against the ops apart, over awkward shapes."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Dense, Gelu, RepeatedRows
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.linear_rows import fits, linear_rows, takes
from engines.turbomind.ops.rows_cut import RowsCut
from engines.turbomind.ops_table import TurbomindOps

BF16, FP16 = torch.bfloat16, torch.float16
# Both round the product and the result; where sums in another order round the other way it is an ulp, and the
# twin rounds between the ops of a gate.
TOLERANCE = {BF16: 4e-3, FP16: 5e-4}
# dtype, rows, outputs, inputs, columns, cluster, stages: parts of 64 columns that are fewer, as many and more
# than there are places for, outputs that end inside a part, a row past a tile, tiles by turns, an odd number
# of tiles for pairs, inputs that end inside a slab, of one slab, fewer than a tile has pieces, and more
SHAPES = [
    (BF16, 1, 8, 8, 128, 2, 2),
    (FP16, 130, 144, 208, 128, 1, 3),
    (BF16, 257, 200, 80, 192, 2, 2),
    (BF16, 300, 592, 144, 256, 2, 4),
    (BF16, 140, 128, 600, 128, 2, 2),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def operands(device: torch.device, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, dtype=dtype, device=device, generator=generator) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_that_of_fp32(hopper, shape: tuple) -> None:
    dtype, rows, outputs, inputs, columns, cluster, stages = shape
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    cut = RowsCut(columns=columns, cluster=cluster, stages=stages)
    got = linear_rows(hopper, x, Dense(weight_OI=weight, bias_O=bias), cut=cut)
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    assert relative_error(got, wanted) < TOLERANCE[dtype]


FORMS: list[Gelu] = ["gelu", "gelu_tanh", "quick_gelu", "gelu", "gelu"]


@pytest.mark.parametrize(("shape", "form"), list(zip(SHAPES, FORMS, strict=True)), ids=str)
def test_a_gelu_is_that_of_the_op_apart(hopper, shape: tuple, form: Gelu) -> None:
    dtype, rows, outputs, inputs, columns, cluster, stages = shape
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    layer = Dense(weight_OI=weight * inputs**-0.5, bias_O=bias)
    cut = RowsCut(columns=columns, cluster=cluster, stages=stages)
    wanted = TorchOps().linear_gelu(x, layer, form).float()
    got = linear_rows(hopper, x, layer, after=form, cut=cut)
    assert relative_error(got, wanted) < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("shape", "scaled"), list(zip(SHAPES, [True, True, False, True, False], strict=True)), ids=str
)
def test_a_residual_is_added_to_the_rounded_product(hopper, shape: tuple, scaled: bool) -> None:
    dtype, rows, outputs, inputs, columns, cluster, stages = shape
    shapes = ((rows, inputs), (outputs, inputs), (outputs,), (outputs,), (rows, outputs))
    x, weight, bias, scale, residual = operands(hopper.device, dtype, *shapes)
    layer, factor = Dense(weight_OI=weight * inputs**-0.5, bias_O=bias), scale if scaled else None
    cut = RowsCut(columns=columns, cluster=cluster, stages=stages)
    got = linear_rows(hopper, x, layer, after="add", residual_TO=residual, scale_O=factor, cut=cut)
    wanted = TorchOps().linear_add(x, layer, residual, scale_O=factor)
    assert relative_error(got, wanted.float()) < TOLERANCE[dtype]


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


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("pictures", "length"), [(1, 150), (7, 37), (40, 5)])
def test_rows_that_repeat_are_added_to_each_picture(hopper, pictures: int, length: int, scaled: bool) -> None:
    shapes = ((pictures, length, 64), (72, 64), (72,), (length, 72))
    x, weight, scale, rows = operands(hopper.device, BF16, *shapes)
    layer, factor, repeated = (
        Dense(weight_OI=weight, bias_O=None),
        scale if scaled else None,
        RepeatedRows.of(rows),
    )
    wanted = TorchOps().linear_add(x, layer, rows.expand(pictures, -1, -1), scale_O=factor)
    assert torch.equal(TorchOps().linear_add(x, layer, repeated, scale_O=factor), wanted)
    got = linear_rows(hopper, x, layer, after="add", residual_TO=repeated, scale_O=factor)
    table = TurbomindOps(hopper).linear_add(x, layer, repeated, scale_O=factor)
    assert relative_error(got, wanted.float()) < TOLERANCE[BF16]
    assert relative_error(table, wanted.float()) < TOLERANCE[BF16]


@pytest.mark.parametrize("rows", [3, 520])
def test_the_table_gives_what_the_ops_apart_give(gpu, rows: int) -> None:
    x, weight, bias, residual = operands(gpu.device, BF16, (rows, 64), (64, 64), (64,), (rows, 64))
    layer, ops = Dense(weight_OI=weight, bias_O=bias), TurbomindOps(gpu)
    gelu, total = ops.linear_gelu(x, layer, "gelu"), ops.linear_add(x, layer, residual)
    assert relative_error(gelu, TorchOps().linear_gelu(x, layer, "gelu").float()) < TOLERANCE[BF16]
    assert relative_error(total, TorchOps().linear_add(x, layer, residual).float()) < TOLERANCE[BF16]
    scaled = ops.linear_add(x, layer, residual, scale_O=bias)
    wanted = TorchOps().linear_add(x, layer, residual, scale_O=bias)
    assert relative_error(scaled, wanted.float()) < TOLERANCE[BF16]


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
