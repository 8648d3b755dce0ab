"""Tiles whose columns are the rows of x: every form against the ops apart, over awkward shapes."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Dense, Gelu
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.columns_cut import ColumnsCut, make_cut
from engines.turbomind.ops.linear_columns import cut_of, linear_columns
from engines.turbomind.ops_table import TurbomindOps

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 4e-3, FP16: 5e-4}
# dtype, rows, outputs, inputs, rows of a tile, groups, cluster, stages: fewer rows and outputs than a tile,
# outputs that end inside a group, tiles that start earlier, pairs of which one has no inputs, inputs that end
# inside a slab, fewer slabs than stages and many more
SHAPES = [
    (BF16, 1, 8, 8, 64, 2, 2, 2),
    (FP16, 130, 144, 208, 64, 2, 1, 3),
    (BF16, 100, 200, 80, 80, 3, 1, 3),
    (BF16, 70, 136, 144, 176, 2, 1, 2),
    (BF16, 161, 72, 600, 80, 1, 1, 2),
    (BF16, 90, 200, 600, 64, 2, 2, 2),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def operands(device: torch.device, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, dtype=dtype, device=device, generator=generator) for shape in shapes]


def cut_of_tiles(rows: int, groups: int, cluster: int, stages: int) -> ColumnsCut:
    return ColumnsCut(rows=rows, groups=groups, cluster=cluster, stages=stages)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_that_of_fp32(hopper, shape: tuple) -> None:
    dtype, rows, outputs, inputs, *cut = shape
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    got = linear_columns(hopper, x, Dense(weight_OI=weight, bias_O=bias), cut_of_tiles(*cut))
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    assert relative_error(got, wanted) < TOLERANCE[dtype]


FORMS: list[Gelu] = ["gelu", "gelu_tanh", "quick_gelu", "gelu", "gelu", "gelu"]


@pytest.mark.parametrize(("shape", "form"), list(zip(SHAPES, FORMS, strict=True)), ids=str)
def test_a_gelu_is_that_of_the_op_apart(hopper, shape: tuple, form: Gelu) -> None:
    dtype, rows, outputs, inputs, *cut = shape
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    layer = Dense(weight_OI=weight * inputs**-0.5, bias_O=bias)
    wanted = TorchOps().linear_gelu(x, layer, form).float()
    got = linear_columns(hopper, x, layer, cut_of_tiles(*cut), after=form)
    assert relative_error(got, wanted) < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("shape", "scaled"), list(zip(SHAPES, [True, True, False, True, False, True], strict=True)), ids=str
)
def test_a_residual_is_added_to_the_rounded_product(hopper, shape: tuple, scaled: bool) -> None:
    dtype, rows, outputs, inputs, *cut = shape
    shapes = ((rows, inputs), (outputs, inputs), (outputs,), (outputs,), (rows, outputs))
    x, weight, bias, scale, residual = operands(hopper.device, dtype, *shapes)
    layer, factor = Dense(weight_OI=weight * inputs**-0.5, bias_O=bias), scale if scaled else None
    got = linear_columns(
        hopper, x, layer, cut_of_tiles(*cut), after="add", residual_TO=residual, scale_O=factor
    )
    wanted = TorchOps().linear_add(x, layer, residual, scale_O=factor)
    assert relative_error(got, wanted.float()) < TOLERANCE[dtype]


def test_a_gelu_is_exact_over_the_numbers_that_bf16_has(hopper) -> None:
    x = torch.linspace(-12, 12, 8 * 512, device=hopper.device).to(BF16).view(512, 8)
    identity = Dense(weight_OI=torch.eye(8, dtype=BF16, device=hopper.device), bias_O=None)
    got = linear_columns(hopper, x, identity, cut_of_tiles(80, 2, 1, 3), after="gelu")
    wanted = torch.nn.functional.gelu(x.double())
    assert torch.allclose(got.double(), wanted, rtol=2**-8, atol=1e-6)


def test_a_gelu_rounds_every_bf16_number_as_the_exact_one_does(hopper) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(BF16)
    x = every[(every > -5.5) & (every < 12) & (every.abs() > 2**-13)]
    x = x[: len(x) // 8 * 8].view(-1, 8).to(hopper.device)
    identity = Dense(weight_OI=torch.eye(8, dtype=BF16, device=hopper.device), bias_O=None)
    got = linear_columns(hopper, x, identity, cut_of_tiles(80, 2, 1, 3), after="gelu")
    exact = x.double() * torch.special.ndtr(x.double())
    assert len(x) > 500 and torch.equal(got, exact.to(BF16))


@pytest.mark.parametrize("scaled", [True, False])
def test_the_table_goes_by_the_choice(hopper, monkeypatch, scaled: bool) -> None:
    chosen = cut_of_tiles(80, 2, 1, 3)
    monkeypatch.setattr("engines.turbomind.ops.linear_columns.columns_choice", lambda *_, **__: chosen)
    x, weight, scale, residual = operands(hopper.device, BF16, (2, 70, 64), (72, 64), (72,), (2, 70, 72))
    layer, factor, ops = Dense(weight_OI=weight, bias_O=None), scale if scaled else None, TurbomindOps(hopper)
    assert cut_of(hopper, x, layer, "add") == chosen
    got = ops.linear_add(x, layer, residual, scale_O=factor)
    assert got.shape == (2, 70, 72)
    assert relative_error(got, TorchOps().linear_add(x, layer, residual, scale_O=factor).float()) < 4e-3
    y = ops.linear_tower(x, layer)
    assert torch.equal(y, linear_columns(hopper, x, layer, chosen))
    assert relative_error(y, TorchOps().linear_tower(x, layer).float()) < 4e-3
    gelu = ops.linear_gelu(x, layer, "gelu")
    assert relative_error(gelu, TorchOps().linear_gelu(x, layer, "gelu").float()) < 8e-3


def test_what_no_copy_takes_is_left_to_others(hopper) -> None:
    (x,) = operands(hopper.device, BF16, (600, 64))
    odd = Dense(weight_OI=x[:70].contiguous(), bias_O=None)
    assert cut_of(hopper, x, odd, "gelu") is None
    assert cut_of(hopper, x.float(), Dense(weight_OI=x[:72].contiguous(), bias_O=None), "gelu") is None


def test_operands_of_the_wrong_shape_are_named(hopper) -> None:
    x, weight, residual = operands(hopper.device, BF16, (10, 64), (72, 64), (10, 64))
    layer, cut = Dense(weight_OI=weight, bias_O=None), cut_of_tiles(80, 2, 1, 3)
    with pytest.raises(KernelError, match=r"`linear_columns`: `residual` is \[10, 64\], not \[10, 72\]"):
        linear_columns(hopper, x, layer, cut, after="add", residual_TO=residual)


@pytest.mark.gpu
@pytest.mark.parametrize("tiles", [1, 2, 3])
@pytest.mark.parametrize(("outputs", "inputs"), [(1024, 1024), (4096, 1024), (1024, 4096), (3200, 3200)])
@pytest.mark.parametrize("cut", [(80, 2, 1), (208, 2, 1), (176, 3, 1), (144, 2, 2)], ids=str)
def test_the_layers_of_towers_come_out_right_on_a_gpu(
    cuda_gpu, tiles: int, outputs: int, inputs: int, cut: tuple[int, int, int]
) -> None:
    x, weight, bias = operands(cuda_gpu.device, BF16, (tiles * 1025, inputs), (outputs, inputs), (outputs,))
    whole = make_cut(*cut, bytes_per_block=cuda_gpu.shared_bytes_per_block)
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    got = linear_columns(cuda_gpu, x, Dense(weight_OI=weight, bias_O=bias), whole)
    assert relative_error(got, wanted) < TOLERANCE[BF16]
