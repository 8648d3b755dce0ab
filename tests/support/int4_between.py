"""Random 4-bit layers as they lie between two attentions, and what they make of rows, in fp32."""

from collections.abc import Callable
from typing import Any

import torch
from paged_attention import relative_error

from engines.ops import BetweenAttentions, Int4, Weight
from engines.quant.int4_tiles import dequantize, linear_int4

BF16 = torch.bfloat16
# Of the largest: numbers of bf16 are rounded at every layer's end, 2^-9 of each, some ten times on the way.
TOLERANCE = 1.2e-2


def random_layer(gpu, outputs: int, inputs: int, group_size: int, *, symmetric: bool, bias: bool) -> Int4:
    groups = inputs // group_size
    zeros = torch.full((groups, outputs), 8) if symmetric else torch.randint(0, 17, (groups, outputs))
    return linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=(torch.rand(groups, outputs) / (4 * inputs**0.5)).half().to(gpu.device),
        zeros_GO=zeros.to(torch.uint8).to(gpu.device),
        bias_O=torch.randn(outputs, device=gpu.device).to(BF16) if bias else None,
    )


def random_between(
    gpu,
    hidden: int,
    attended: int,
    ffn: int,
    qkv: int,
    group_size: int,
    *,
    symmetric: bool = False,
    bias: bool = False,
) -> BetweenAttentions:
    def layer(outputs: int, inputs: int) -> Int4:
        return random_layer(gpu, outputs, inputs, group_size, symmetric=symmetric, bias=bias)

    return between_of(gpu, layer, hidden, attended, ffn, qkv)


def between_of(
    gpu, layer: Callable[[int, int], Weight], hidden: int, attended: int, ffn: int, qkv: int
) -> BetweenAttentions:
    """Return four layers, made by `layer(outputs, inputs)` in their order, between random norms."""
    return BetweenAttentions(
        o=layer(hidden, attended),
        ffn_norm_H=(1 + torch.rand(hidden, device=gpu.device)).to(BF16),
        gate_up=layer(2 * ffn, hidden),
        down=layer(hidden, ffn),
        norm_H=(1 + torch.rand(hidden, device=gpu.device)).to(BF16),
        qkv=layer(qkv, hidden),
        eps=1e-5,
    )


def wanted(
    attended: torch.Tensor, residual: torch.Tensor, between: BetweenAttentions
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in fp32, with nothing rounded between."""

    def linear(x: torch.Tensor, layer: Int4) -> torch.Tensor:
        bias = None if layer.bias_O is None else layer.bias_O.float()
        return torch.nn.functional.linear(x, dequantize(layer, torch.float32), bias)

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], weight.float(), between.eps)

    h = residual.float() + linear(attended.float(), between.o)
    gate, up = linear(norm(h, between.ffn_norm_H), between.gate_up).chunk(2, dim=-1)
    h = h + linear(torch.nn.functional.silu(gate) * up, between.down)
    return linear(norm(h, between.norm_H), between.qkv), h


def random_rows(gpu, num_rows: int, between: BetweenAttentions) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what attention leaves and the residual, of so many rows."""
    groups, hidden = between.o.scales_GO.shape
    attended, residual = (
        torch.randn(num_rows, width, device=gpu.device).to(BF16)
        for width in (groups * between.o.group_size, hidden)
    )
    return attended, residual


def check(
    gpu,
    kernel: Callable[..., Any],
    num_rows: int,
    between: BetweenAttentions,
    *,
    times: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
) -> None:
    """Hold a kernel of all four layers, `kernel(gpu, attended, residual, between)`, to `wanted`.

    `mean` and `scale` are of the residual.
    """
    for _ in range(times):
        attended, residual = random_rows(gpu, num_rows, between)
        residual = (scale * (residual + mean)).to(BF16)
        qkv, h = kernel(gpu, attended, residual, between)
        wanted_qkv, wanted_h = wanted(attended, residual, between)
        assert relative_error(h, wanted_h) < TOLERANCE
        assert relative_error(qkv, wanted_qkv) < TOLERANCE


def check_captured(gpu, kernel: Callable[..., Any], num_rows: int, between: BetweenAttentions) -> None:
    """Hold replays of such a kernel's launch to the launch, to the bit."""
    attended, residual = random_rows(gpu, num_rows, between)
    launched, graph = kernel(gpu, attended, residual, between), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = kernel(gpu, attended, residual, between)
    for _ in range(50):
        for out in captured:
            out.zero_()
        graph.replay()
        assert all(torch.equal(*pair) for pair in zip(captured, launched, strict=True))
