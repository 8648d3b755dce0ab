"""The linear layer of e4m3 weights in 7 bits: to the bit where one number is multiplied; against fp32."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.ops import Fp7
from engines.quant.fp7_tiles import codes_of, fp7_of, weight_of
from engines.turbomind.ops.fp7_cut import Fp7Cut, fp7_cut, make_cut
from engines.turbomind.ops.linear_fp7 import MOST_ROWS, fits, linear_fp7
from engines.turbomind.ops.two_rings_cut import rows_of_cut

BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn
TOLERANCE = 2.5e-3  # the result is rounded once
# rows, outputs, inputs, groups, turns, cluster: outputs and rows that end inside a block;
# rings that are filled again; several blocks of rows
SMALL = [
    (1, 48, 768, 1, 1, 1),
    (8, 64, 4096, 1, 4, 1),
    (9, 80, 1024, 1, 2, 2),
    (17, 208, 1280, 2, 2, 1),
    (33, 144, 2048, 3, 1, 2),
    (40, 464, 1792, 4, 1, 1),
    (65, 112, 1024, 2, 1, 2),
    (150, 80, 1024, 1, 2, 1),
]
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (92608, 4096)]
H200 = {"num_sms": 132, "bytes_per_block": 232448}


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def random_layer(gpu, outputs: int, inputs: int) -> tuple[Fp7, Tensor]:
    codes = (torch.randn(outputs, inputs, device=gpu.device) * 100).clamp(-448, 448).to(E4M3)
    scale = (torch.rand(outputs, device=gpu.device) + 0.5) / 4096
    weight = fp7_of(codes, scale)
    assert weight is not None
    return weight, torch.randn(outputs, dtype=BF16, device=gpu.device)


def random_rows(gpu, num_rows: int, inputs: int) -> tuple[Tensor, Tensor]:
    codes = (torch.randn(num_rows, inputs, device=gpu.device) * 100).clamp(-448, 448).to(E4M3)
    return codes, (torch.rand(num_rows, device=gpu.device) + 0.5) / 100


def exact(x: tuple[Tensor, Tensor], weight: Fp7, bias: Tensor) -> Tensor:
    codes, row_scale = x
    return codes.float() @ weight_of(weight).T * row_scale[:, None] + bias.float()


def small_cut(num_rows: int, inputs: int, *, groups: int, turns: int, **how) -> Fp7Cut:
    """Return a cut whose rings are short, so that stages are filled again."""
    rows = rows_of_cut(num_rows)
    stages = max(2, turns)
    sums = turns * rows * (64 * groups + 4) * 4
    ring = stages * (groups * 14352 + rows * 256 + 16)
    cut = make_cut(
        rows=rows,
        inputs=inputs,
        shared_bytes=max(ring, sums) + 6000,
        groups=groups,
        turns=turns,
        x_bytes=stages * (rows * 256 + 16),
        **how,
    )
    assert cut is not None
    return cut


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_layer_in_7_bits_gives_the_product_of_its_numbers(hopper, case) -> None:
    num_rows, outputs, inputs, groups, turns, cluster = case
    weight, bias = random_layer(hopper, outputs, inputs)
    x = random_rows(hopper, num_rows, inputs)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns, cluster=cluster)
    got = linear_fp7(hopper, *x, weight, bias, cut=cut)
    assert relative_error(got, exact(x, weight, bias)) < TOLERANCE


@pytest.mark.parametrize("apart", [False, True])
def test_sums_in_the_tensor_cores_and_apart_give_the_same_product(hopper, apart: bool) -> None:
    weight, bias = random_layer(hopper, 64, 1024)
    x = random_rows(hopper, 8, 1024)
    cut = small_cut(8, 1024, groups=1, turns=1, apart=apart)
    assert dict(cut.constants())["APART"] == int(apart)
    assert relative_error(linear_fp7(hopper, *x, weight, bias, cut=cut), exact(x, weight, bias)) < TOLERANCE


def test_numbers_of_every_size_reach_the_product_to_the_bit(hopper) -> None:
    outputs, inputs = 32, 256
    largest = torch.linspace(8, 126, outputs).to(torch.int32)[:, None]  # of a row: from subnormals to 448
    bits = (torch.arange(inputs) * 11 + torch.arange(outputs)[:, None]) % (largest + 1)
    bits[:, 1::2] |= 0x80
    weight = fp7_of(
        bits.to(torch.uint8).view(E4M3).to(hopper.device), torch.ones(outputs, device=hopper.device)
    )
    assert weight is not None and len(codes_of(weight).view(torch.uint8).unique()) > 100
    x = torch.eye(inputs, device=hopper.device).to(E4M3)
    got = linear_fp7(hopper, x, torch.ones(inputs, device=hopper.device), weight, None)
    # Products of the tensor cores add to +0, so a zero loses its sign there, and nothing else does.
    wanted = (weight_of(weight).T + 0.0).to(BF16).contiguous()  # four bits of mantissa: exact
    assert torch.equal(got.view(torch.int16), wanted.view(torch.int16))


# rows, outputs of a half, inputs, groups, turns
@pytest.mark.parametrize("case", [(1, 80, 1024, 2, 2), (33, 144, 1280, 4, 1), (130, 64, 512, 2, 1)], ids=str)
def test_halves_that_meet_in_a_block_are_gated_as_by_ops_apart(hopper, case) -> None:
    num_rows, half, inputs, groups, turns = case
    weight, bias = random_layer(hopper, 2 * half, inputs)
    x = random_rows(hopper, num_rows, inputs)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns)
    gate, up = linear_fp7(hopper, *x, weight, bias, cut=cut).chunk(2, dim=-1)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns, gated=True)
    got = linear_fp7(hopper, *x, weight, bias, gated=True, cut=cut)
    assert got.shape == (num_rows, half)
    torch.testing.assert_close(got, torch.nn.functional.silu(gate) * up, rtol=2**-7, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 8, 13, 32, 57, 128])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_preferred_cuts_give_the_product_at_model_sizes(cuda_gpu, layer, num_rows: int) -> None:
    weight, bias = random_layer(cuda_gpu, *layer)
    x = random_rows(cuda_gpu, num_rows, layer[1])
    if not fits(cuda_gpu, num_rows, BF16, weight):
        pytest.skip("the kernel's instructions are those of sm_90a")
    assert relative_error(linear_fp7(cuda_gpu, *x, weight, bias), exact(x, weight, bias)) < TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 16, 64, 128])
@pytest.mark.parametrize("layer", LAYERS[:4], ids=str)
def test_overlapping_launches_give_the_same_bits_every_time(cuda_gpu, layer, num_rows: int) -> None:
    weights = [random_layer(cuda_gpu, *layer)[0] for _ in range(3)]
    x = random_rows(cuda_gpu, num_rows, layer[1])
    if not fits(cuda_gpu, num_rows, BF16, weights[0]):
        pytest.skip("the kernel's instructions are those of sm_90a")
    gated = layer[0] > 64 * cuda_gpu.num_sms
    wanted = []
    for weight in weights:
        torch.cuda.synchronize()
        wanted.append(linear_fp7(cuda_gpu, *x, weight, None, gated=gated))
    different = torch.zeros((), dtype=torch.int64, device=cuda_gpu.device)
    for _ in range(100):
        got = [linear_fp7(cuda_gpu, *x, weight, None, gated=gated) for weight in weights * 2]
        different += sum((a != b).sum() for a, b in zip(got, wanted * 2, strict=True))
    assert different.item() == 0


def test_what_the_kernel_cannot_take_is_left_to_others(hopper) -> None:
    weight, _ = random_layer(hopper, 32, 256)
    assert fits(hopper, 1, BF16, weight) and fits(hopper, MOST_ROWS, BF16, weight)
    assert fits(hopper, 9, BF16, weight, gated=True)
    assert not fits(hopper, 0, BF16, weight)
    assert not fits(hopper, MOST_ROWS + 1, BF16, weight)
    assert not fits(hopper, 9, torch.float16, weight)
    assert not fits(hopper, 9, BF16, random_layer(hopper, 48, 256)[0], gated=True)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("num_rows", [1, 9, 32, 64, 128])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_cover_the_outputs_and_fit_into_shared_memory(layer, num_rows: int, gated: bool) -> None:
    outputs, inputs = layer
    cut = fp7_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, gated=gated, **H200)
    assert cut is not None
    written = outputs // 2 if gated else outputs
    width = 64 * cut.groups // (2 if gated else 1)
    blocks = cut.num_blocks(num_rows, written)
    assert blocks * width // cut.cluster >= written * -(-num_rows // cut.rows)
    assert blocks % cut.cluster == 0
    assert cut.shared_bytes <= H200["bytes_per_block"]


def test_the_cuts_that_were_measured_to_be_the_fastest_are_preferred() -> None:
    # qkv, o, gate_up, down of a decoder of 4,096: groups, turns, cluster / stages; kernels/LOG.md
    for num_rows, wanted in (
        (1, "131/12+15 131/12+15 411/12+8 132/12+15"),
        (16, "131/9+15 131/9+15 411/12+8 132/9+15"),
        (32, "131/9+12 131/9+12 411/12+6 132/9+12"),
        (64, "131/9+6 131/9+6 411/8+4 122/6+8"),
        (128, "131/9+3 131/9+3 411/8+3 122/6+4"),
    ):
        cuts = (
            fp7_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, gated=outputs == 28672, **H200)
            for outputs, inputs in LAYERS[:4]
        )
        assert [cut.label() for cut in cuts if cut] == wanted.split()


def test_blocks_are_of_a_size_that_loads_the_sms_evenly() -> None:
    # gate_up of other decoders: groups, turns, cluster
    for outputs, inputs, wanted in (
        (37888, 3584, "211"),  # blocks of four groups are 148, a second wave of 16
        (14336, 4096, "211"),
        (22016, 2048, "411"),
        (59392, 8192, "411"),
    ):
        cut = fp7_cut(num_rows=8, outputs=outputs, inputs=inputs, gated=True, **H200)
        assert cut is not None and cut.label().startswith(wanted)
