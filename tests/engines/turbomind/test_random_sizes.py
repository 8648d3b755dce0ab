"""Layers of random sizes, in every kind of weight and format of pages, as decode steps have them.

Kernels lie close behind each other, so that what one of them reads too early or writes too late shows: the
same bits have to come each time, eager and recorded, and within rounding those of the torch table.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import pytest
import torch
from paged_attention import make_batch, make_pages, quantized, relative_error
from torch import Tensor

from engines.memory.kv_layer import KvLayer
from engines.ops import BetweenAttentions, Dense, Fp8, Int8, Ops, Weight
from engines.options import KvFormat
from engines.pytorch.ops_torch import TorchOps
from engines.quant.bf12_layer import layer_in_12_bits
from engines.quant.bf12_tiles import bf12_of
from engines.quant.fp7_tiles import fp7_of
from engines.quant.int4_tiles import linear_int4
from engines.steps.step import AttentionBatch
from engines.turbomind.ops_table import TurbomindOps

BF16 = torch.bfloat16
Kind = Literal["dense", "copied", "12 bits", "int4", "fp8", "fp8 copied", "int8"]
# Of the whole, after two or three layers: codes of rows and pages move whole steps where roundings differ.
TOLERANCE, OF_CODES = 0.06, 0.12
TIMES = 8  # launches of all layers behind each other


def random_layer(kind: Kind, outputs: int, inputs: int, group_size: int, *, device: torch.device) -> Weight:
    """Return a layer that keeps the size of its inputs."""
    weight_OI = torch.randn(outputs, inputs, device=device) * inputs**-0.5
    bias_O = torch.randn(outputs, device=device).to(BF16)
    match kind:
        case "dense":
            return Dense(weight_OI=weight_OI.to(BF16), bias_O=bias_O)
        case "copied":
            return Dense(weight_OI=weight_OI.to(BF16), bias_O=None, bf12=bf12_of(weight_OI.to(BF16)))
        case "12 bits":
            return replace(layer_in_12_bits(weight_OI.to(BF16), "layer"), bias_O=bias_O)
        case "int4":
            shape = (inputs // group_size, outputs)
            return linear_int4(
                torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=device),
                scales_GO=torch.rand(shape, device=device) * inputs**-0.5 / 4,
                zeros_GO=torch.randint(0, 17, shape, dtype=torch.uint8, device=device),
                bias_O=bias_O,
            )
    scale_O = weight_OI.abs().amax(dim=1) / (127 if kind == "int8" else 448)
    codes_OI = weight_OI / scale_O[:, None]
    if kind == "int8":
        return Int8(weight_OI=codes_OI.round().to(torch.int8), scale_O=scale_O, bias_O=bias_O)
    e4m3_OI = codes_OI.to(torch.float8_e4m3fn)
    fp7 = fp7_of(e4m3_OI, scale_O) if kind == "fp8 copied" else None
    return Fp8(weight_OI=e4m3_OI, scale_O=scale_O, bias_O=None, fp7=fp7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Sequences that decode through some layers, and the sizes of these."""

    kind: Kind
    pages: KvFormat
    lengths: list[int]
    num_layers: int
    hidden: int
    ffn: int
    head_dim: int
    num_kv_heads: int
    group: int  # query heads of one
    page_tokens: int
    group_size: int

    @property
    def num_heads(self) -> int:
        return self.num_kv_heads * self.group

    @property
    def qkv(self) -> int:
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim


def random_step(seed: int) -> Step:
    draw = random.Random(seed).choice
    num_rows = draw([1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 33, 64, 65, 80, 130])
    return Step(
        kind=draw(get_args(Kind)),
        pages=draw(["none", "int8", "int4", "fp8", "bf12"]),
        lengths=[draw([1, 2, 15, 16, 17, 64, 65, 130, 300, 513, 900]) for _ in range(num_rows)],
        num_layers=draw([2, 3]),
        hidden=draw([256, 512, 1024, 2048]),
        ffn=draw([256, 768, 1024, 2048]),
        head_dim=draw([64, 128]),
        num_kv_heads=draw([2, 4]),
        group=draw([1, 2, 4]),
        page_tokens=draw([16, 64]),
        group_size=draw([64, 128]),
    )


class Layers:
    """The layers of a step with random weights and pages, and what it brings to them."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, num = step, len(step.lengths)
        self._batch, num_pages = make_batch(
            [1] * num, step.lengths, page_tokens=step.page_tokens, device=device, num_decodes=num
        )
        self.pages = [self._random_pages(num_pages) for _ in range(step.num_layers)]
        self._layers = [self._random_between(device) for _ in range(step.num_layers)]
        self._qkv = torch.randn(num, step.qkv, device=device).to(BF16)
        self._residual = torch.randn(num, step.hidden, device=device).to(BF16)
        angles = torch.randn(num, step.head_dim // 2, device=device)
        self._cos, self._sin = angles.cos(), angles.sin()

    def run(self, ops: Ops, pages: list[KvLayer]) -> tuple[Tensor, Tensor]:
        """Return (qkv behind the last layer, its residual)."""
        step, num = self._step, len(self._step.lengths)
        heads = (step.num_heads, step.num_kv_heads, step.num_kv_heads)
        x, residual = self._qkv, self._residual
        for kv, between in zip(pages, self._layers, strict=True):
            qkv = x.view(num, sum(heads), step.head_dim).split(heads, dim=1)
            attended = self._attend(ops, qkv, kv, self._batch)
            x, residual = ops.layer_products(attended.reshape(num, -1), residual, between)
        return x, residual

    def _attend(self, ops: Ops, qkv: Any, kv: KvLayer, batch: AttentionBatch) -> Tensor:
        scale = self._step.head_dim**-0.5
        return ops.rope_store_attend(*qkv, self._cos, self._sin, kv, batch, scale=scale, window=None)

    def _random_pages(self, num_pages: int) -> KvLayer:
        step = self._step
        pages = make_pages(
            self._batch, num_pages, num_kv_heads=step.num_kv_heads, page_tokens=step.page_tokens,
            dim=step.head_dim, dtype=BF16,
        )  # fmt: skip
        return pages if step.pages == "none" else quantized(pages, step.pages)[0]

    def _random_between(self, device: torch.device) -> BetweenAttentions:
        step = self._step

        def layer(outputs: int, inputs: int) -> Weight:
            return random_layer(step.kind, outputs, inputs, step.group_size, device=device)

        norms = ((torch.rand(step.hidden, device=device) + 0.5).to(BF16) for _ in range(2))
        return BetweenAttentions(
            o=layer(step.hidden, step.num_heads * step.head_dim),
            ffn_norm_H=next(norms),
            gate_up=layer(2 * step.ffn, step.hidden),
            down=layer(step.hidden, step.ffn),
            norm_H=next(norms),
            qkv=layer(step.qkv, step.hidden),
            eps=1e-5,
        )


def copies(pages: list[KvLayer]) -> list[KvLayer]:
    names = ("keys_PKTD", "values_PKTD", "key_scales_PKTS", "value_scales_PKTS")
    return [
        replace(kv, **{name: x.clone() for name in names if (x := getattr(kv, name)) is not None})
        for kv in pages
    ]


SMALL = Step(
    kind="int4", pages="int8", lengths=[1, 17, 64], num_layers=2, hidden=256, ffn=256, head_dim=64,
    num_kv_heads=2, group=1, page_tokens=16, group_size=128,
)  # fmt: skip


@torch.inference_mode()
def check(gpu, step: Step, times: int) -> tuple[Layers, tuple[Tensor, Tensor]]:
    """Hold launches behind each other to the twin and to the same bits; return layers and results."""
    layers, ops = Layers(step, gpu.device), TurbomindOps(gpu)
    wanted = layers.run(TorchOps(), copies(layers.pages))
    found = [layers.run(ops, layers.pages) for _ in range(times)]
    of_codes = step.pages == "int4" or step.kind in ("int8", "fp8", "fp8 copied")
    for one, other in zip(found[0], wanted, strict=True):
        assert relative_error(one, other) < (OF_CODES if of_codes else TOLERANCE), step
    for again in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(again, found[0], strict=True)), step
    return layers, found[0]


def test_layers_behind_each_other_give_the_twins_results_and_the_same_bits_each_time(gpu) -> None:
    check(gpu, SMALL, times=2)


@torch.inference_mode()
@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(40))
def test_layers_of_random_sizes_do_so_eager_and_recorded(cuda_gpu, seed: int) -> None:
    step = random_step(seed)
    layers, found = check(cuda_gpu, step, TIMES)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = layers.run(TurbomindOps(cuda_gpu), layers.pages)
    for _ in range(TIMES):
        for out in recorded:
            out.zero_()
        graph.replay()
        graph.replay()
        assert all(torch.equal(*pair) for pair in zip(recorded, found, strict=True)), step
