"""The linear layer on warpgroup products: every kind of weight against fp32, over awkward shapes."""

from dataclasses import replace

import pytest
import torch
from paged_attention import relative_error

from engines.ops import Dense, Fp8, Int8
from engines.pytorch.linear import linear, quantize_rows_fp8, quantize_rows_int8
from engines.turbomind.ops.hopper_cut import ROWS, HopperCut, Kind, make_cut
from engines.turbomind.ops.linear_hopper import fits, linear_codes, linear_dense

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 2.5e-3, FP16: 4e-4}  # the result is rounded once
# dtype, rows, outputs, inputs, groups, cluster, lines: one slab and less; inputs and outputs that end inside
# a box; more slabs than stages; rows that fill their columns and one more
DENSE = [
    (BF16, 3, 104, 40, 1, 1, 1),
    (FP16, 17, 136, 584, 2, 2, 1),
    (BF16, 33, 72, 1096, 1, 4, 2),
    (BF16, 64, 200, 264, 3, 1, 1),
    (BF16, 65, 64, 512, 1, 8, 1),
]
# rows, outputs, inputs, groups, warpgroups that take turns, cluster
CODES = [(3, 104, 48, 1, 1, 1), (9, 136, 1168, 2, 2, 1), (64, 72, 640, 1, 1, 4)]
LAYERS = [
    (6144, 4096),
    (4096, 4096),
    (28672, 4096),
    (4096, 14336),
    (1152, 896),
    (896, 4864),
]  # outputs, inputs


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def cut_of(
    kind: Kind,
    num_rows: int,
    inputs: int,
    groups: int,
    cluster: int,
    *,
    shared_bytes: int = 100_000,
    **how: int,
) -> HopperCut:
    """Return a cut whose ring is short, so that stages are filled again."""
    rows = next(rows for rows in ROWS if rows >= num_rows)
    cut = make_cut(
        kind,
        rows=rows,
        groups=groups,
        cluster=cluster,
        inputs=inputs,
        shared_bytes=shared_bytes,
        **how,
    )
    assert cut is not None
    return cut


def check_dense(gpu, dtype, num_rows, outputs, inputs, cut: HopperCut | None) -> None:
    x, weight, bias = (
        torch.randn(*shape, dtype=dtype, device=gpu.device)
        for shape in ((num_rows, inputs), (outputs, inputs), (outputs,))
    )
    wanted = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    got = linear_dense(gpu, x, Dense(weight_OI=weight, bias_O=bias), cut=cut)
    assert relative_error(got, wanted) < TOLERANCE[dtype]


def random_codes(gpu, kind: Kind, outputs: int, inputs: int) -> Fp8 | Int8:
    weight = torch.randn(outputs, inputs, device=gpu.device)
    scale, bias = torch.rand(outputs, device=gpu.device), torch.randn(outputs, dtype=BF16, device=gpu.device)
    if kind == "e4m3":
        return Fp8(weight_OI=weight.to(torch.float8_e4m3fn), scale_O=scale, bias_O=bias)
    return Int8(weight_OI=(40 * weight).clamp(-127, 127).to(torch.int8), scale_O=scale, bias_O=bias)


def check_codes(gpu, kind: Kind, num_rows, outputs, inputs, cut: HopperCut | None) -> None:
    x = torch.randn(num_rows, inputs, dtype=BF16, device=gpu.device)
    layer = random_codes(gpu, kind, outputs, inputs)
    codes, row_scale = (quantize_rows_fp8 if kind == "e4m3" else quantize_rows_int8)(x)
    got = linear_codes(gpu, codes, row_scale[:, 0].contiguous(), layer, BF16, cut=cut)
    assert relative_error(got, linear(x, layer).float()) < 2 * TOLERANCE[BF16]  # the twin is rounded too


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_dense_weights_give_the_product_in_fp32(hopper, case) -> None:
    dtype, num_rows, outputs, inputs, groups, cluster, lines = case
    cut = cut_of("dense", num_rows, inputs, groups, cluster, lines=lines)
    check_dense(hopper, dtype, num_rows, outputs, inputs, cut)


@pytest.mark.parametrize("case", CODES, ids=str)
@pytest.mark.parametrize("kind", ["e4m3", "int8"])
def test_8_bit_codes_give_the_twins_product(hopper, kind: Kind, case) -> None:
    num_rows, outputs, inputs, groups, k_groups, cluster = case
    cut = cut_of(kind, num_rows, inputs, groups, cluster, k_groups=k_groups)
    check_codes(hopper, kind, num_rows, outputs, inputs, cut)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 17, 33, 64, 128, 200])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers_of_shipped_models_give_the_product(cuda_gpu, layer, num_rows: int) -> None:
    if cuda_gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    check_dense(cuda_gpu, BF16, num_rows, *layer, None)
    for kind in ("e4m3", "int8") if num_rows <= 128 else ("int8",):
        check_codes(cuda_gpu, kind, num_rows, *layer, None)


def test_what_the_kernel_cannot_take_is_told_apart(hopper) -> None:
    def dense(outputs: int, inputs: int) -> Dense:
        return Dense(weight_OI=torch.zeros(outputs, inputs, dtype=BF16), bias_O=None)

    assert fits(hopper, 256, BF16, dense(8, 8))
    assert not fits(hopper, 257, BF16, dense(8, 8))
    assert not fits(hopper, 0, BF16, dense(8, 8))
    assert not fits(hopper, 1, torch.float32, dense(8, 8))
    assert not fits(hopper, 1, BF16, dense(9, 8))
    assert not fits(hopper, 1, BF16, dense(8, 12))


@pytest.mark.parametrize("kind", ["dense", "e4m3", "int8"])
def test_more_rows_than_a_cut_has_columns_go_to_further_blocks(hopper, kind: Kind) -> None:
    cut = cut_of(kind, 8, 640, 1, 2)
    if kind == "dense":
        check_dense(hopper, BF16, 19, 72, 640, cut)
    else:
        check_codes(hopper, kind, 19, 72, 640, cut)


def gated(y_T2F: torch.Tensor) -> torch.Tensor:
    gate_TF, up_TF = y_T2F.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate_TF) * up_TF


# rows, outputs of a half, inputs, outputs of a group, groups, cluster, warpgroups that take turns
@pytest.mark.parametrize(
    "case",
    [
        (3, 72, 272, 64, 2, 1, 1),
        (9, 136, 640, 40, 4, 1, 1),
        (17, 40, 1104, 64, 2, 2, 1),
        (8, 64, 640, 56, 2, 1, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["dense", "e4m3", "int8"])
def test_halves_that_meet_in_a_block_are_gated_as_by_ops_apart(hopper, kind: Kind, case) -> None:
    num_rows, outputs, inputs, group_outputs, groups, cluster, k_groups = case
    cut = cut_of(
        kind, num_rows, inputs, groups, cluster, k_groups=k_groups, group_outputs=group_outputs, gated=True
    )
    apart = replace(cut, gated=False)
    x = torch.randn(num_rows, inputs, dtype=BF16, device=hopper.device)
    if kind == "dense":
        layer = Dense(
            weight_OI=torch.randn(2 * outputs, inputs, dtype=BF16, device=hopper.device) * inputs**-0.5,
            bias_O=torch.randn(2 * outputs, dtype=BF16, device=hopper.device),
        )
        got, wanted = (linear_dense(hopper, x, layer, gated=cut is way, cut=way) for way in (cut, apart))
    else:
        layer = random_codes(hopper, kind, 2 * outputs, inputs)
        codes, scale = (quantize_rows_fp8 if kind == "e4m3" else quantize_rows_int8)(x)
        got, wanted = (
            linear_codes(hopper, codes, scale[:, 0].contiguous(), layer, BF16, gated=cut is way, cut=way)
            for way in (cut, apart)
        )
    assert got.shape == (num_rows, outputs)
    torch.testing.assert_close(got, gated(wanted), rtol=2**-7, atol=1e-3)


# rows, outputs, inputs, outputs of a group, groups, cluster: read past the last one go rows of x, or nothing
@pytest.mark.parametrize(
    "case", [(3, 104, 384, 40, 2, 1), (9, 72, 640, 48, 1, 2), (64, 64, 256, 56, 1, 1)], ids=str
)
@pytest.mark.parametrize("kind", ["dense", "e4m3", "int8"])
def test_groups_of_fewer_outputs_than_a_warpgroup_multiplies(hopper, kind: Kind, case) -> None:
    num_rows, outputs, inputs, group_outputs, groups, cluster = case
    cut = cut_of(kind, num_rows, inputs, groups, cluster, group_outputs=group_outputs)
    if kind == "dense":
        check_dense(hopper, BF16, num_rows, outputs, inputs, cut)
    else:
        check_codes(hopper, kind, num_rows, outputs, inputs, cut)


@pytest.mark.parametrize("sum_slabs", [0, 1, 2])
def test_sums_of_e4m3_move_to_fp32_as_often_as_wanted(hopper, sum_slabs: int) -> None:
    cut = cut_of("e4m3", 8, 1168, 1, 2, sum_slabs=sum_slabs)
    assert cut.sum_slabs == sum_slabs
    check_codes(hopper, "e4m3", 5, 72, 1168, cut)


def test_sums_of_e4m3_stay_where_registers_hold_them_once(hopper) -> None:
    cut = cut_of("e4m3", 256, 384, 1, 2, shared_bytes=227_000)
    assert cut.sum_slabs == 0
    check_codes(hopper, "e4m3", 130, 64, 384, cut)
