"""Norms inside the products between two attentions: against norms apart, and against fp32."""

import dataclasses

import pytest
import torch
from between_layers import random_between as random_plain
from int4_between import between_of
from paged_attention import relative_error
from torch import Tensor

from engines.ops import BetweenAttentions, Dense, Int4, Weight
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.quant.int4_tiles import dequantize, linear_int4
from engines.turbomind.ops.folded_layers import folded_layers, folds
from engines.turbomind.ops_table import TurbomindOps

BF16 = torch.bfloat16
# Of the largest: numbers of bf16 are rounded at every layer's end, 2^-9 of each, some ten times on the way.
TOLERANCE = 1.2e-2
# kind, multiprocessors, rows, hidden, attended, ffn, qkv, biases: rows that end inside a block, rings that
# are filled again; pairs of blocks for o and down, blocks of one group of outputs, of two
SMALL = [
    ("int4", 132, 20, 128, 128, 128, 48, False),
    ("int4", 4, 5, 128, 384, 256, 80, True),
    ("int4", 132, 8, 256, 2304, 640, 208, False),
    ("int4", 132, 17, 384, 256, 512, 208, True),
    ("int4", 8, 40, 256, 640, 384, 512, False),
    ("int4", 132, 64, 1408, 128, 128, 64, True),
    ("bf12", 8, 20, 256, 512, 768, 48, False),
    ("bf12", 8, 17, 512, 256, 512, 208, True),
    ("bf12", 4, 33, 512, 640, 384, 512, False),
    ("bf12", 22, 64, 640, 512, 768, 64, True),
]


@pytest.fixture
def hopper(gpu, monkeypatch: pytest.MonkeyPatch):
    if gpu.capability != (9, 0):
        pytest.skip("the kernels' instructions are those of sm_90a")
    monkeypatch.setattr(gpu, "num_sms", 132)
    return gpu


def random_layer(gpu, kind: str, outputs: int, inputs: int, *, bias: bool, group_size: int = 128) -> Weight:
    bias_O = torch.randn(outputs, device=gpu.device).to(BF16) if bias else None
    if kind == "bf12":
        weight_OI = (torch.randn(outputs, inputs, device=gpu.device) * inputs**-0.5).to(BF16)
        return Dense(weight_OI=weight_OI, bias_O=bias_O, bf12=bf12_of(weight_OI))
    groups = inputs // group_size
    return linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=(torch.rand(groups, outputs) / (4 * inputs**0.5)).half().to(gpu.device),
        zeros_GO=torch.randint(0, 17, (groups, outputs)).to(torch.uint8).to(gpu.device),
        bias_O=bias_O,
    )


def random_between(
    gpu, kind: str, hidden: int, attended: int, ffn: int, qkv: int, bias: bool = False
) -> BetweenAttentions:
    def layer(outputs: int, inputs: int) -> Weight:
        return random_layer(gpu, kind, outputs, inputs, bias=bias)

    return between_of(gpu, layer, hidden, attended, ffn, qkv)


def inputs_of(layer: Weight) -> int:
    return (
        layer.scales_GO.shape[0] * layer.group_size if isinstance(layer, Int4) else layer.weight_OI.shape[1]
    )


def random_rows(gpu, num_rows: int, between: BetweenAttentions, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    widths = (inputs_of(between.o), inputs_of(between.qkv))
    attended, residual = (mean + torch.randn(num_rows, width, device=gpu.device) for width in widths)
    return attended.to(BF16), residual.to(BF16)


def exact(attended: Tensor, residual: Tensor, between: BetweenAttentions) -> tuple[Tensor, Tensor]:
    """The same in fp32, with nothing rounded between."""

    def linear(x: Tensor, layer: Weight) -> Tensor:
        if isinstance(layer, Int4):
            weight = dequantize(layer, torch.float32)
            x = x if layer.perm_I is None else x[:, layer.perm_I]
        else:
            weight = weight_of(layer.bf12).float()
        bias = None if layer.bias_O is None else layer.bias_O.float()
        return torch.nn.functional.linear(x, weight, bias)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], weight.float(), between.eps)

    h = residual.float() + linear(attended.float(), between.o)
    gate, up = linear(norm(h, between.ffn_norm_H), between.gate_up).chunk(2, dim=-1)
    h = h + linear(torch.nn.functional.silu(gate) * up, between.down)
    return linear(norm(h, between.norm_H), between.qkv), h


def check(gpu, num_rows: int, between: BetweenAttentions, mean: float = 0.0) -> None:
    attended, residual = random_rows(gpu, num_rows, between, mean)
    assert folds(gpu, num_rows, BF16, between)
    results = folded_layers(gpu, attended, residual, between)
    for result, wanted in zip(results, exact(attended, residual, between), strict=True):
        assert relative_error(result, wanted) < TOLERANCE


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_norms_inside_products_give_what_norms_apart_give(hopper, case) -> None:
    kind, hopper.num_sms, num_rows, *sizes, bias = case
    check(hopper, num_rows, random_between(hopper, kind, *sizes, bias=bias))


def test_inputs_in_another_order_are_taken(hopper) -> None:
    between = random_between(hopper, "int4", 256, 256, 512, 384)
    permuted = {
        name: dataclasses.replace(layer, perm_I=torch.randperm(inputs_of(layer), device=hopper.device))
        for name in ("o", "gate_up", "down", "qkv")
        for layer in (getattr(between, name),)
    }
    check(hopper, 6, dataclasses.replace(between, **permuted))


def test_a_large_mean_of_the_rows_costs_no_accuracy(hopper) -> None:
    hopper.num_sms = 8
    check(hopper, 17, random_between(hopper, "bf12", 256, 512, 768, 384), mean=4.0)


def test_what_has_no_such_ends_is_left_to_norms_apart(hopper) -> None:
    between = random_between(hopper, "int4", 256, 256, 512, 384)
    assert all(folds(hopper, num_rows, BF16, between) for num_rows in (5, 8, 17, 64))
    assert not folds(hopper, 0, BF16, between)
    assert not folds(hopper, 4, BF16, between)  # all in one kernel
    assert not folds(hopper, 9, BF16, between)  # norms apart cost nothing
    assert not folds(hopper, 65, BF16, between)
    assert not folds(hopper, 20, torch.float16, between)  # rows that are not scaled leave its range
    fp8 = random_plain("fp8", hidden=256, attended=256, ffn=512, qkv=384, device=hopper.device)
    dense = random_plain("dense", hidden=256, attended=256, ffn=512, qkv=384, device=hopper.device)
    for other in (fp8, dense):
        assert not folds(hopper, 20, BF16, other)
        for name in ("o", "gate_up", "down", "qkv"):
            mixed = dataclasses.replace(between, **{name: getattr(other, name)})
            assert not folds(hopper, 20, BF16, mixed)
    hopper.num_sms = 3  # blocks of several groups of outputs: a row's squares are no four parts
    assert not folds(hopper, 20, BF16, random_between(hopper, "int4", 128, 256, 512, 384))


def test_the_op_takes_norms_inside_where_they_take_less_time(hopper) -> None:
    between, ops = random_between(hopper, "int4", 128, 128, 128, 48), TurbomindOps(hopper)
    rows = random_rows(hopper, 6, between)
    inside = folded_layers(hopper, *rows, between)
    assert all(torch.equal(*pair) for pair in zip(ops.layer_products(*rows, between), inside, strict=True))
    apart = TurbomindOps.add_rms_norm_ffn(
        ops, ops.linear(rows[0], between.o), rows[1], between.ffn_norm_H, 1e-5, between.gate_up, between.down
    )
    total = apart[0] + apart[1]
    assert relative_error(inside[1], total.float()) < TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["int4", "bf12"])
def test_norms_inside_products_give_what_norms_apart_give_at_model_sizes(cuda_gpu, kind: str) -> None:
    between = random_between(cuda_gpu, kind, 4096, 4096, 14336, 6144)
    for num_rows in (17, 32, 64, *((5, 8) if kind == "int4" else ())):
        check(cuda_gpu, num_rows, between)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["int4", "bf12"])
def test_launches_that_overlap_give_the_same_bits_each_time(cuda_gpu, kind: str) -> None:
    layers = [random_between(cuda_gpu, kind, 4096, 4096, 14336, 6144) for _ in range(2)]
    for num_rows in (8, 32):
        attended, residual = random_rows(cuda_gpu, num_rows, layers[0])
        wanted = [folded_layers(cuda_gpu, attended, residual, layer) for layer in layers]
        torch.cuda.synchronize()
        for _ in range(50):
            got = [folded_layers(cuda_gpu, attended, residual, layer) for layer in layers]
            assert all(torch.equal(*pair) for pair in zip(sum(got, ()), sum(wanted, ()), strict=True))
