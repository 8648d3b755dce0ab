"""The 4-bit layers between two attentions in one kernel: against the ops apart, in fp32."""

import dataclasses

import pytest
import torch
from int4_between import BF16, TOLERANCE, check, check_captured, random_between, random_layer, wanted
from paged_attention import relative_error

from engines.errors import KernelError
from engines.turbomind.ops.chain_layers import ChainSizes
from engines.turbomind.ops.linear_chain_int4 import linear_chain_int4, make_shape, takes
from engines.turbomind.ops_table import TurbomindOps

# rows, hidden, attended, ffn, qkv, group size, symmetric, biases: one slab; more slabs than warps, not whole
# rounds; several tiles of outputs a block, fewer than blocks; ffn of more rounds than are kept; groups of a
# part of a slab and of several
SMALL = [
    (1, 128, 128, 128, 48, 128, False, False),
    (4, 256, 384, 512, 208, 128, False, True),
    (3, 256, 256, 768, 512, 64, True, False),
    (3, 384, 128, 640, 16, 32, False, True),
    (2, 512, 512, 6656, 256, 256, True, False),
    (4, 2176, 2304, 256, 128, 128, False, False),
    (1, 2176, 2304, 8832, 128, 128, False, True),
    (1, 256, 256, 2304, 256, 64, False, False),
    (2, 2176, 2304, 6656, 128, 32, False, True),
]
MODELS = [  # hidden, attended, ffn, qkv of InternVL2-8B, InternVL2-2B, Qwen2-VL-7B, and an ugly one
    (4096, 4096, 14336, 6144),
    (2048, 2048, 8192, 4096),
    (3584, 3584, 18944, 4608),
    (1408, 896, 4992, 1168),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_layers_in_one_kernel_equal_the_layers_apart(gpu, case) -> None:
    num_rows, *sizes, group_size, symmetric, bias = case
    check(
        gpu,
        linear_chain_int4,
        num_rows,
        random_between(gpu, *sizes, group_size, symmetric=symmetric, bias=bias),
    )


def test_the_op_takes_the_kernel_for_few_rows_alone(gpu) -> None:
    between, ops = random_between(gpu, 256, 256, 512, 384, 128), TurbomindOps(gpu)
    for num_rows in (4, 5):
        attended, residual = (torch.randn(num_rows, 256, device=gpu.device).to(BF16) for _ in range(2))
        results = ops.layer_products(attended, residual, between)
        for result, exact in zip(results, wanted(attended, residual, between), strict=True):
            assert relative_error(result, exact) < TOLERANCE
        if num_rows == 4:
            alone = linear_chain_int4(gpu, attended, residual, between)
            assert all(torch.equal(*pair) for pair in zip(results, alone, strict=True))


def test_launches_follow_each_other(gpu) -> None:
    check(gpu, linear_chain_int4, 2, random_between(gpu, 256, 256, 512, 384, 128), times=3)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "case", [*((sizes, 128) for sizes in MODELS), (MODELS[0], 64), (MODELS[0], 32)], ids=str
)
def test_layers_in_one_kernel_equal_the_layers_apart_at_model_sizes(cuda_gpu, case) -> None:
    sizes, group_size = case
    between = random_between(cuda_gpu, *sizes, group_size, symmetric=group_size == 64, bias=group_size == 32)
    for num_rows in (1, 4, 2):  # by turns, as launches leave what the next one finds
        check(cuda_gpu, linear_chain_int4, num_rows, between, times=3)


@pytest.mark.gpu
def test_a_captured_launch_gives_the_same_bits_each_time(cuda_gpu) -> None:
    between = random_between(cuda_gpu, *MODELS[0], 128)
    check_captured(cuda_gpu, linear_chain_int4, 4, between)


def test_a_large_mean_of_the_rows_costs_no_accuracy(gpu) -> None:
    between = random_between(gpu, 256, 256, 512, 384, 128)
    attended, residual = (4 + torch.randn(2, 256, device=gpu.device).to(BF16) for _ in range(2))
    qkv, h = linear_chain_int4(gpu, attended, residual, between)
    wanted_qkv, wanted_h = wanted(attended, residual, between)
    assert relative_error(qkv, wanted_qkv) < TOLERANCE
    assert relative_error(h, wanted_h) < TOLERANCE


def test_the_ring_fills_shared_memory_and_no_more() -> None:
    for hidden, attended, ffn, qkv in MODELS:
        for group_size, least in ((128, 10), (64, 9), (32, 8)):
            sizes = ChainSizes(hidden, attended, ffn, qkv, group_size)
            shape = make_shape(sizes, num_rows=1, num_sms=132, shared_bytes=232448)
            if any(size % group_size for size in (hidden, attended, ffn)):
                assert shape is None
                continue
            assert shape is not None
            assert shape.stages >= least
            assert shape.shared_bytes <= 232448
            assert shape.under_way <= shape.stages


def test_what_the_kernel_cannot_take_is_left_to_others(gpu) -> None:
    between = random_between(gpu, 256, 256, 512, 384, 128)
    assert takes(gpu, 4, BF16, between)
    assert not takes(gpu, 5, BF16, between)
    assert not takes(gpu, 0, BF16, between)
    assert not takes(gpu, 1, torch.float16, between)  # rows are scaled too late
    for other in (
        {"qkv": random_layer(gpu, 384, 256, 64, symmetric=True, bias=False)},  # other groups
        {"qkv": random_layer(gpu, 392, 256, 128, symmetric=True, bias=False)},  # no whole tiles
        {"o": random_layer(gpu, 256, 4224, 128, symmetric=True, bias=False)},  # more inputs than are kept
        {"down": random_layer(gpu, 256, 640, 128, symmetric=True, bias=False)},  # not those that are gated
        {"qkv": dataclasses.replace(between.qkv, perm_I=torch.randperm(256))},
    ):
        assert not takes(gpu, 1, BF16, dataclasses.replace(between, **other))
    attended, residual = torch.zeros(5, 256, dtype=BF16), torch.zeros(5, 256, dtype=BF16)
    with pytest.raises(KernelError, match=r"`linear_chain_int4` of 5 rows of torch.bfloat16: 1 to 4 rows"):
        linear_chain_int4(gpu, attended.to(gpu.device), residual.to(gpu.device), between)
    with pytest.raises(KernelError, match=r"`linear_chain_int4`: `residual` is \[1, 128\], not \[2, 256\]"):
        linear_chain_int4(gpu, attended[:2].to(gpu.device), residual[:1, :128].to(gpu.device), between)
