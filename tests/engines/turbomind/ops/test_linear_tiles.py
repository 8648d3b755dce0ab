"""Products of many rows in tiles: every type of weight against fp32 or exact sums, over awkward shapes."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Dense, Fp8, Int8
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.linear_tiles import fits, linear_tiles, linear_tiles_codes
from engines.turbomind.ops.tiles_cut import TilesCut

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 4e-3, FP16: 5e-4}  # one rounding of the result; of a gate three
# dtype, rows, outputs, inputs, columns, cluster, stages: outputs that end inside a tile and inside 64
# columns, inputs that end inside a slab, a row past a tile, an odd number of tiles for pairs, rings shorter
# than a product
SHAPES = [
    (BF16, 1, 16, 16, 128, 2, 2),
    (FP16, 130, 144, 208, 128, 1, 3),
    (BF16, 257, 176, 336, 128, 2, 2),
    (BF16, 300, 272, 144, 256, 2, 4),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def operands(device: torch.device, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, dtype=dtype, device=device, generator=generator) for shape in shapes]


def codes(device: torch.device, *shape: int, kind: type[Fp8 | Int8]) -> Tensor:
    """Return codes over their whole range."""
    generator = torch.Generator(device).manual_seed(sum(shape))
    if kind is Int8:
        return torch.randint(-127, 128, shape, dtype=torch.int8, device=device, generator=generator)
    return torch.randn(shape, device=device, generator=generator).to(torch.float8_e4m3fn)


def scales(device: torch.device, count: int) -> Tensor:
    return torch.rand(count, device=device, generator=torch.Generator(device).manual_seed(count)) + 0.5


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("dtype", "rows", "outputs", "inputs", "columns", "cluster", "stages"), SHAPES)
def test_a_product_is_that_of_fp32(
    hopper,
    dtype: torch.dtype,
    rows: int,
    outputs: int,
    inputs: int,
    columns: int,
    cluster: int,
    stages: int,
    gated: bool,
) -> None:
    x, weight, bias = operands(hopper.device, dtype, (rows, inputs), (outputs, inputs), (outputs,))
    layer = Dense(weight_OI=weight * inputs**-0.5, bias_O=bias)
    cut = TilesCut(columns=columns, cluster=cluster, stages=stages)
    got = linear_tiles(hopper, x, layer, gated=gated, cut=cut)
    wanted = torch.nn.functional.linear(x.float(), layer.weight_OI.float(), bias.float())
    if gated:
        wanted = TorchOps().silu_mul(wanted.to(dtype)).float()
    assert got.shape == wanted.shape
    assert relative_error(got, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", [Fp8, Int8])
@pytest.mark.parametrize("biased", [False, True])
def test_scales_of_rows_and_outputs_are_multiplied_inside(
    hopper, kind: type[Fp8 | Int8], biased: bool, gated: bool
) -> None:
    rows, outputs, inputs = 140, 160, 272
    x, weight = (codes(hopper.device, count, inputs, kind=kind) for count in (rows, outputs))
    row_scale = scales(hopper.device, rows) / inputs / (127 if kind is Int8 else 1)
    (bias,) = operands(hopper.device, BF16, (outputs,))
    layer = kind(weight_OI=weight, scale_O=scales(hopper.device, outputs), bias_O=bias if biased else None)
    cut = TilesCut(columns=128, cluster=2, stages=2)
    got = linear_tiles_codes(hopper, x, row_scale, layer, BF16, gated=gated, cut=cut)
    wanted = (x.float() @ weight.float().T) * row_scale[:, None] * layer.scale_O
    wanted = wanted + bias.float() if biased else wanted
    if gated:
        wanted = TorchOps().silu_mul(wanted.to(BF16)).float()
    assert relative_error(got, wanted) < TOLERANCE[BF16]


def test_sums_of_int8_are_exact(hopper) -> None:
    x, weight = (codes(hopper.device, count, 256, kind=Int8) for count in (9, 16))
    x[:, 1:] = 0
    one = torch.ones(16, device=hopper.device)
    layer = Int8(weight_OI=weight, scale_O=one, bias_O=None)
    got = linear_tiles_codes(hopper, x, one[:9] / 128, layer, BF16)
    assert torch.equal(got, (x.double() @ weight.double().T / 128).to(BF16))


def test_widths_that_no_copy_takes_are_refused(hopper) -> None:
    def layer(outputs: int, inputs: int) -> Int8:
        weight = torch.zeros(outputs, inputs, dtype=torch.int8, device=hopper.device)
        return Int8(weight_OI=weight, scale_O=torch.ones(outputs, device=hopper.device), bias_O=None)

    assert fits(hopper, BF16, layer(8, 16))
    assert not fits(hopper, BF16, layer(8, 16), gated=True)
    assert not fits(hopper, BF16, layer(12, 16))
    assert not fits(hopper, BF16, layer(16, 24))
    assert not fits(hopper, torch.float32, layer(16, 16))


def test_operands_of_the_wrong_shape_are_named(hopper) -> None:
    x, weight = operands(hopper.device, BF16, (10, 64), (72, 72))
    with pytest.raises(KernelError, match=r"`linear_tiles`: `x` is \[10, 64\], not \[10, 72\]"):
        linear_tiles(hopper, x, Dense(weight_OI=weight, bias_O=None))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [Fp8, Int8])
@pytest.mark.parametrize("rows", [300, 1025, 2048])
@pytest.mark.parametrize(("outputs", "inputs"), [(6144, 4096), (28672, 4096), (4096, 14336)])
def test_the_layers_of_decoders_come_out_right_on_a_gpu(
    cuda_gpu, kind: type[Fp8 | Int8], rows: int, outputs: int, inputs: int
) -> None:
    x, weight = (codes(cuda_gpu.device, count, inputs, kind=kind) for count in (rows, outputs))
    layer = kind(weight_OI=weight, scale_O=scales(cuda_gpu.device, outputs), bias_O=None)
    row_scale = scales(cuda_gpu.device, rows) / inputs / (127 if kind is Int8 else 1)
    wanted = (x.float() @ weight.float().T) * row_scale[:, None] * layer.scale_O
    gated = TorchOps().silu_mul(wanted.to(BF16)).float()
    tolerance = 4e-3 if kind is Int8 else 6e-3  # sums of e4m3 stay in the tensor cores
    got = linear_tiles_codes(cuda_gpu, x, row_scale, layer, BF16)
    assert relative_error(got, wanted) < tolerance
    assert (
        relative_error(linear_tiles_codes(cuda_gpu, x, row_scale, layer, BF16, gated=True), gated)
        < 2 * tolerance
    )


@pytest.mark.gpu
def test_a_replayed_product_is_the_same(cuda_gpu) -> None:
    x, weight = operands(cuda_gpu.device, BF16, (700, 512), (1024, 512))
    layer = Dense(weight_OI=weight, bias_O=None)
    wanted, graph = linear_tiles(cuda_gpu, x, layer), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = linear_tiles(cuda_gpu, x, layer)
    got.zero_()
    graph.replay()
    assert torch.equal(got, wanted)
