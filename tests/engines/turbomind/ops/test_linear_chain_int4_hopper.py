"""The 4-bit layers between two attentions in one kernel of warpgroup products, against the layers in fp32."""

import dataclasses

import pytest
import torch
from int4_between import BF16, check, check_captured, random_between, random_layer, random_rows

from engines.errors import KernelError
from engines.turbomind.ops.chain_layers import ChainSizes
from engines.turbomind.ops.linear_chain_int4_hopper import (
    fitting_shape,
    linear_chain_int4_hopper,
    make_shape,
    takes,
)
from engines.turbomind.ops_table import TurbomindOps

# rows, hidden, attended, ffn, qkv, biases: fewer rows than the kernel is made for, blocks without gates or
# outputs of qkv; as many as the most, so that rings come round, and blocks that have outputs of qkv alone
SMALL = [(5, 512, 1024, 1024, 128, True), (64, 512, 1024, 1024, 1152, False)]
MODELS = [(4096, 4096, 14336, 6144), (4096, 4096, 11264, 4608), (2048, 2048, 8192, 4096)]


@pytest.fixture
def blocks(gpu, monkeypatch) -> None:
    """As many multiprocessors as these layers need."""
    monkeypatch.setattr(gpu, "num_sms", max(gpu.num_sms, 32))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_layers_in_one_kernel_equal_the_layers_apart(gpu, blocks, case) -> None:
    num_rows, *sizes, bias = case
    between = random_between(gpu, *sizes, 128, bias=bias)
    check(
        gpu, linear_chain_int4_hopper, num_rows, between, times=2 if bias else 1
    )  # a launch leaves what the next one finds


@pytest.mark.parametrize(("mean", "scale"), [(30, 1), (1, 2.0**50), (1, 2.0**-40)])
def test_rows_that_are_all_large_small_or_far_from_zero(gpu, blocks, mean, scale) -> None:
    """What zero points take off are products with sums of rows, which are stored 2^64 as large."""
    between = random_between(gpu, 512, 1024, 1024, 128, 128)
    between = dataclasses.replace(
        between,
        gate_up=dataclasses.replace(between.gate_up, zeros_GO=torch.full_like(between.gate_up.zeros_GO, 16)),
        eps=0.0,
    )
    check(gpu, linear_chain_int4_hopper, 5, between, mean=mean, scale=scale)


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", MODELS, ids=str)
def test_layers_in_one_kernel_equal_the_layers_apart_at_model_sizes(cuda_gpu, sizes) -> None:
    between, ops = random_between(cuda_gpu, *sizes, 128, bias=sizes != MODELS[0]), TurbomindOps(cuda_gpu)
    for num_rows in (5, 8, 64, 9, 16, 17, 32, 33, 63):
        check(cuda_gpu, linear_chain_int4_hopper, num_rows, between, times=2)
        attended, residual = random_rows(cuda_gpu, num_rows, between)
        if sizes == MODELS[0] and cuda_gpu.num_sms == 132:
            results = ops.layer_products(attended, residual, between)
            alone = linear_chain_int4_hopper(cuda_gpu, attended, residual, between)
            assert all(torch.equal(*pair) for pair in zip(results, alone, strict=True)), (
                "the op takes the kernel"
            )


@pytest.mark.gpu
def test_a_captured_launch_gives_the_same_bits_each_time(cuda_gpu) -> None:
    between = random_between(cuda_gpu, *MODELS[0], 128)
    for num_rows in (8, 24, 64):
        check_captured(cuda_gpu, linear_chain_int4_hopper, num_rows, between)


def test_rings_fit_shared_memory_and_a_layer_has_an_item_a_block() -> None:
    for hidden, attended, ffn, qkv in MODELS:
        sizes = ChainSizes(hidden, attended, ffn, qkv, group_size=128)
        for num_rows in (5, 8, 9, 16, 17, 32, 33, 64):
            shape = make_shape(sizes, num_rows=num_rows, num_sms=132, shared_bytes=232448)
            assert shape is not None
            assert shape.shared_bytes <= 232448
            assert num_rows <= shape.rows < 2 * max(num_rows, 8)
            assert max(hidden // 32, ffn // 128, qkv // 64) <= shape.num_blocks <= 132
            assert make_shape(sizes, num_rows=num_rows, num_sms=62, shared_bytes=232448) is None
            assert make_shape(sizes, num_rows=num_rows, num_sms=132, shared_bytes=101376) is None
    too_wide = ChainSizes(hidden=3584, attended=3584, ffn=18944, qkv=4608, group_size=128)
    assert make_shape(too_wide, num_rows=8, num_sms=132, shared_bytes=232448) is None


def test_what_the_kernel_cannot_take_is_left_to_others(gpu, blocks) -> None:
    between = random_between(gpu, 512, 1024, 1024, 64, 128)
    assert fitting_shape(gpu, 5, BF16, between)
    assert fitting_shape(gpu, 64, BF16, between)
    assert not fitting_shape(gpu, 4, BF16, between)  # of `linear_chain_int4`
    assert not fitting_shape(gpu, 65, BF16, between)
    assert not fitting_shape(gpu, 8, torch.float16, between)  # rows are scaled too late
    for other in (
        {"qkv": random_layer(gpu, 64, 512, 64, symmetric=True, bias=False)},  # other groups
        {"qkv": random_layer(gpu, 96, 512, 128, symmetric=True, bias=False)},  # no whole groups of outputs
        {"o": random_layer(gpu, 512, 640, 128, symmetric=True, bias=False)},  # no whole rounds
        {"down": random_layer(gpu, 512, 2048, 128, symmetric=True, bias=False)},  # not those that are gated
        {"qkv": dataclasses.replace(between.qkv, perm_I=torch.randperm(512))},
    ):
        assert not fitting_shape(gpu, 8, BF16, dataclasses.replace(between, **other))
    attended, residual = torch.zeros(4, 1024, dtype=BF16), torch.zeros(4, 512, dtype=BF16)
    with pytest.raises(
        KernelError, match=r"`linear_chain_int4_hopper` of 4 rows of torch.bfloat16: 5 to 64 rows"
    ):
        linear_chain_int4_hopper(gpu, attended.to(gpu.device), residual.to(gpu.device), between)
    attended = torch.zeros(8, 1024, dtype=BF16, device=gpu.device)
    with pytest.raises(
        KernelError, match=r"`linear_chain_int4_hopper`: `residual` is \[7, 512\], not \[8, 512\]"
    ):
        linear_chain_int4_hopper(gpu, attended, torch.zeros(7, 512, dtype=BF16, device=gpu.device), between)


def test_layers_that_leave_multiprocessors_idle_go_apart(gpu, monkeypatch) -> None:
    between = random_between(gpu, 512, 1024, 1024, 64, 128)  # 16 blocks of o and down, 8 of gate_up
    monkeypatch.setattr(gpu, "num_sms", 16)
    assert fitting_shape(gpu, 8, BF16, between)
    assert not takes(gpu, 8, BF16, between)
    wide = random_between(gpu, 512, 1024, 2048, 64, 128)  # 16 of each
    for num_sms, taken in ((16, True), (20, True), (21, False)):
        monkeypatch.setattr(gpu, "num_sms", num_sms)
        assert takes(gpu, 8, BF16, wide) == taken
