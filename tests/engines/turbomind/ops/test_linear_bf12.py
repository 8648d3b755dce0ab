"""The linear layer of bf16 weights in 12 bits: to the bit where one number is multiplied; against fp32."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor

from engines.ops import Bf12
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.turbomind.ops.bf12_cut import Bf12Cut, bf12_cut, make_cut
from engines.turbomind.ops.linear_bf12 import MOST_ROWS, fits, linear_bf12
from engines.turbomind.ops.two_rings_cut import rows_of_cut

BF16 = torch.bfloat16
TOLERANCE = 2.5e-3  # the result is rounded once
# rows, outputs, inputs, groups, turns, cluster: outputs and rows that end inside a block;
# rings that are filled again; several blocks of rows
SMALL = [
    (1, 48, 384, 1, 1, 1),
    (8, 64, 2048, 1, 4, 1),
    (9, 80, 512, 1, 2, 2),
    (17, 208, 640, 2, 2, 1),
    (33, 144, 1024, 3, 1, 2),
    (40, 464, 896, 4, 1, 1),
    (65, 112, 512, 2, 1, 2),
    (150, 80, 512, 1, 2, 1),
    (260, 144, 512, 2, 1, 1),
]
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (896, 4864), (92608, 4096)]
H200 = {"num_sms": 132, "bytes_per_block": 232448}


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def packed(weight_OI: Tensor) -> Bf12:
    weight = bf12_of(weight_OI)
    assert weight is not None
    return weight


def random_layer(gpu, outputs: int, inputs: int) -> tuple[Bf12, Tensor]:
    weight = torch.randn(outputs, inputs, dtype=BF16, device=gpu.device) / 64
    return packed(weight), torch.randn(outputs, dtype=BF16, device=gpu.device)


def exact(x: Tensor, weight: Bf12, bias: Tensor) -> Tensor:
    return torch.nn.functional.linear(x.float(), weight_of(weight).float(), bias.float())


def small_cut(num_rows: int, inputs: int, *, groups: int, turns: int, gated: bool = False, **how) -> Bf12Cut:
    """Return a cut whose rings are short, so that stages are filled again."""
    rows = rows_of_cut(num_rows)
    stages = max(2, turns)
    sums = turns * rows * (64 * groups + 4) * 4
    ring = stages * (groups * 12304 + rows * 256 + 16)
    cut = make_cut(
        rows=rows,
        inputs=inputs,
        shared_bytes=max(ring, sums) + 6000,
        groups=groups,
        turns=turns,
        gated=gated,
        x_bytes=stages * (rows * 256 + 16),
        **how,
    )
    assert cut is not None
    return cut


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_layer_in_12_bits_gives_the_product_of_its_numbers(hopper, case) -> None:
    num_rows, outputs, inputs, groups, turns, cluster = case
    weight, bias = random_layer(hopper, outputs, inputs)
    x = torch.randn(num_rows, inputs, dtype=BF16, device=hopper.device)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns, cluster=cluster)
    got = linear_bf12(hopper, x, weight, bias, cut=cut)
    assert relative_error(got, exact(x, weight, bias)) < TOLERANCE


def test_numbers_of_every_size_reach_the_product_to_the_bit(hopper) -> None:
    outputs, inputs = 32, 128
    bits = torch.randint(0, 1 << 15, (outputs, inputs), dtype=torch.int16)  # positive
    largest = torch.linspace(1, 142, outputs).to(torch.int16) << 7  # of a row: from subnormals to 2^16
    bits = bits % largest[:, None]
    bits[::3, ::5] = 0
    bits[:, 1::2] |= -0x8000
    weight = packed(bits.view(BF16).to(hopper.device))
    x = torch.eye(inputs, dtype=BF16, device=hopper.device)
    got = linear_bf12(hopper, x, weight, None)
    # Products of the tensor cores add to +0, so a zero loses its sign there, and nothing else does.
    assert torch.equal(got.view(torch.int16), (weight_of(weight).T + 0.0).contiguous().view(torch.int16))


# rows, outputs of a half, inputs, groups, turns
@pytest.mark.parametrize("case", [(1, 80, 512, 2, 2), (33, 144, 640, 4, 1), (130, 64, 256, 2, 1)], ids=str)
def test_halves_that_meet_in_a_block_are_gated_as_by_ops_apart(hopper, case) -> None:
    num_rows, half, inputs, groups, turns = case
    weight, bias = random_layer(hopper, 2 * half, inputs)
    x = torch.randn(num_rows, inputs, dtype=BF16, device=hopper.device)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns)
    gate, up = linear_bf12(hopper, x, weight, bias, cut=cut).chunk(2, dim=-1)
    cut = small_cut(num_rows, inputs, groups=groups, turns=turns, gated=True)
    got = linear_bf12(hopper, x, weight, bias, gated=True, cut=cut)
    assert got.shape == (num_rows, half)
    torch.testing.assert_close(got, torch.nn.functional.silu(gate) * up, rtol=2**-7, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 8, 13, 32, 57, 128])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_preferred_cuts_give_the_product_at_model_sizes(cuda_gpu, layer, num_rows: int) -> None:
    weight, bias = random_layer(cuda_gpu, *layer)
    x = torch.randn(num_rows, layer[1], dtype=BF16, device=cuda_gpu.device)
    if not fits(cuda_gpu, num_rows, BF16, weight):
        pytest.skip("the kernel's instructions are those of sm_90a")
    assert relative_error(linear_bf12(cuda_gpu, x, weight, bias), exact(x, weight, bias)) < TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 16, 64, 128])
@pytest.mark.parametrize("layer", LAYERS[:4], ids=str)
def test_overlapping_launches_give_the_same_bits_every_time(cuda_gpu, layer, num_rows: int) -> None:
    weights = [random_layer(cuda_gpu, *layer)[0] for _ in range(3)]
    x = torch.randn(num_rows, layer[1], dtype=BF16, device=cuda_gpu.device)
    if not fits(cuda_gpu, num_rows, BF16, weights[0]):
        pytest.skip("the kernel's instructions are those of sm_90a")
    gated = layer[0] > 64 * cuda_gpu.num_sms
    wanted = []
    for weight in weights:
        torch.cuda.synchronize()
        wanted.append(linear_bf12(cuda_gpu, x, weight, None, gated=gated))
    different = torch.zeros((), dtype=torch.int64, device=cuda_gpu.device)
    for _ in range(200):
        got = [linear_bf12(cuda_gpu, x, weight, None, gated=gated) for weight in weights * 2]
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
    cut = bf12_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, gated=gated, **H200)
    assert cut is not None
    written = outputs // 2 if gated else outputs
    width = 64 * cut.groups // (2 if gated else 1)
    blocks = cut.num_blocks(num_rows, written)
    assert blocks * width // cut.cluster >= written * -(-num_rows // cut.rows)
    assert blocks % cut.cluster == 0
    assert cut.shared_bytes <= H200["bytes_per_block"]


def test_the_cuts_that_were_measured_to_be_the_fastest_are_preferred() -> None:
    # qkv, o, gate_up, down and head of a decoder of 4,096: groups, turns, cluster / stages; kernels/LOG.md
    for num_rows, wanted in (
        (1, "131/15+15 132/15+15 411/16+16 132/15+15 411/16+16"),
        (16, "131/12+15 132/12+15 411/16+8 132/12+15 411/16+8"),
        (32, "131/9+12 132/9+12 411/8+12 132/9+12 411/8+12"),
        (64, "131/6+9 132/6+9 411/8+6 132/6+9 411/8+6"),
        (128, "131/9+3 132/9+3 411/8+4 132/9+3 411/8+4"),
    ):
        cuts = (
            bf12_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, **H200)
            for outputs, inputs in [*LAYERS[:4], LAYERS[-1]]
        )
        assert [cut.label() for cut in cuts if cut] == wanted.split()
