"""The linear layer of 4-bit codes on warpgroup products: against what the codes stand for in fp32."""

from dataclasses import replace

import pytest
import torch
from paged_attention import relative_error

from engines.ops import Int4
from engines.quant.int4_tiles import dequantize, linear_int4
from engines.turbomind.ops.int4_cut import Int4Cut, int4_cut, make_cut
from engines.turbomind.ops.linear_int4_hopper import fits, linear_int4_hopper
from engines.turbomind.ops.two_rings_cut import rows_of_cut

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 2.5e-3, FP16: 4e-4}  # the result is rounded once
# dtype, rows, outputs, inputs, group size, groups, turns, cluster: outputs and rows that end inside a block;
# rings that are filled again; groups of a part of a slab and of several; several blocks of rows
SMALL = [
    (BF16, 9, 80, 512, 128, 1, 2, 2),
    (BF16, 8, 64, 2048, 512, 1, 4, 1),
    (BF16, 17, 208, 640, 64, 2, 2, 1),
    (FP16, 33, 144, 1024, 32, 1, 3, 2),
    (BF16, 40, 464, 896, 128, 4, 1, 1),
    (BF16, 65, 112, 512, 128, 2, 1, 2),
    (BF16, 150, 80, 512, 128, 1, 2, 1),
    (BF16, 300, 80, 256, 128, 1, 1, 1),
]
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (1152, 896), (896, 4864)]
H200 = {"num_sms": 132, "bytes_per_block": 232448}


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def random_layer(gpu, outputs: int, inputs: int, group_size: int, dtype: torch.dtype) -> Int4:
    return linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=torch.rand(inputs // group_size, outputs, device=gpu.device).half(),
        zeros_GO=torch.randint(0, 17, (inputs // group_size, outputs), dtype=torch.uint8, device=gpu.device),
        perm_I=torch.randperm(inputs, device=gpu.device),
        bias_O=torch.randn(outputs, dtype=dtype, device=gpu.device),
    )


def exact(x: torch.Tensor, layer: Int4) -> torch.Tensor:
    return torch.nn.functional.linear(
        x[:, layer.perm_I].float(), dequantize(layer, torch.float32), layer.bias_O.float()
    )


def small_cut(num_rows: int, inputs: int, group_size: int, *, groups: int, turns: int, **how) -> Int4Cut:
    """Return a cut whose rings are short, so that stages are filled again."""
    rows = rows_of_cut(num_rows)
    cut = make_cut(
        rows=rows,
        inputs=inputs,
        group_size=group_size,
        shared_bytes=40_000 + rows * 1500,
        groups=groups,
        turns=turns,
        code_bytes=2 * groups * turns * 4200,
        **how,
    )
    assert cut is not None
    return cut


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_codes_give_the_product_of_what_they_stand_for(hopper, case) -> None:
    dtype, num_rows, outputs, inputs, group_size, groups, turns, cluster = case
    layer = random_layer(hopper, outputs, inputs, group_size, dtype)
    x = torch.randn(num_rows, inputs, dtype=dtype, device=hopper.device)
    cut = small_cut(num_rows, inputs, group_size, groups=groups, turns=turns, cluster=cluster)
    got = linear_int4_hopper(hopper, x, layer, cut=cut)
    assert relative_error(got, exact(x, layer)) < TOLERANCE[dtype]


# rows, outputs of a half, inputs, group size, groups, turns
@pytest.mark.parametrize(
    "case", [(9, 80, 512, 128, 2, 2), (33, 144, 640, 64, 4, 1), (130, 64, 256, 128, 2, 1)], ids=str
)
def test_halves_that_meet_in_a_block_are_gated_as_by_ops_apart(hopper, case) -> None:
    num_rows, half, inputs, group_size, groups, turns = case
    layer = random_layer(hopper, 2 * half, inputs, group_size, BF16)
    x = torch.randn(num_rows, inputs, dtype=BF16, device=hopper.device) / 64
    cut = small_cut(num_rows, inputs, group_size, groups=groups, turns=turns, gated=True)
    gate, up = linear_int4_hopper(hopper, x, layer, cut=replace(cut, gated=False)).chunk(2, dim=-1)
    got = linear_int4_hopper(hopper, x, layer, gated=True, cut=cut)
    assert got.shape == (num_rows, half)
    torch.testing.assert_close(got, torch.nn.functional.silu(gate) * up, rtol=2**-7, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [9, 32, 57, 128, 200, 256, 300, 512])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_preferred_cuts_give_the_product_at_model_sizes(cuda_gpu, layer, num_rows: int) -> None:
    outputs, inputs = layer
    weight = random_layer(cuda_gpu, outputs, inputs, 128, BF16)
    x = torch.randn(num_rows, inputs, dtype=BF16, device=cuda_gpu.device)
    if not fits(cuda_gpu, num_rows, BF16, weight):
        pytest.skip("the kernel's instructions are those of sm_90a")
    assert relative_error(linear_int4_hopper(cuda_gpu, x, weight), exact(x, weight)) < TOLERANCE[BF16]


def test_what_the_kernel_cannot_take_is_left_to_others(hopper) -> None:
    layer = random_layer(hopper, 32, 256, 64, BF16)
    assert fits(hopper, 9, BF16, layer) and fits(hopper, 512, BF16, layer)
    assert fits(hopper, 9, BF16, layer, gated=True)
    assert not fits(hopper, 0, BF16, layer)
    assert not fits(hopper, 513, BF16, layer)
    assert not fits(hopper, 9, torch.float32, layer)
    assert not fits(hopper, 9, BF16, random_layer(hopper, 40, 256, 64, BF16))
    assert not fits(hopper, 9, BF16, random_layer(hopper, 48, 256, 64, BF16), gated=True)
    assert not fits(hopper, 9, BF16, random_layer(hopper, 32, 192, 64, BF16))
    assert not fits(hopper, 9, BF16, random_layer(hopper, 32, 256, 16, BF16))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("num_rows", [9, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_cover_the_outputs_and_fit_into_shared_memory(layer, num_rows: int, gated: bool) -> None:
    outputs, inputs = layer
    cut = int4_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=128, gated=gated, **H200)
    assert cut is not None
    written = outputs // 2 if gated else outputs
    width = 64 * cut.groups // (2 if gated else 1)
    blocks = cut.num_blocks(num_rows, written)
    assert blocks * width // cut.cluster >= written * -(-num_rows // cut.rows)
    assert blocks % cut.cluster == 0
    assert cut.shared_bytes <= H200["bytes_per_block"]
    for stages in (cut.code_stages, cut.x_stages):
        visits, rest = divmod(stages, cut.turns)
        assert rest == 0 and visits.bit_count() == 1, "the kernel finds a stage by a mask"


def test_the_cuts_that_were_measured_to_be_the_fastest_are_preferred() -> None:
    # qkv, o, gate_up and down of a decoder of 4,096: groups, turns, cluster; kernels/LOG.md
    for num_rows, wanted in ((16, "141 132 411 132"), (64, "131 132 411 132"), (128, "121 122 211 122")):
        cuts = (
            int4_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=128, **H200)
            for outputs, inputs in LAYERS[:4]
        )
        assert [cut.label().split("/")[0] for cut in cuts if cut] == wanted.split()
