"""Random layers of every kind of weight, their exact products, and what else can take them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Fp8, Int4, Int8
from engines.pytorch.linear import quantize_rows_fp8, quantize_rows_int8
from engines.quant import int4_tiles
from engines.quant.fp7_tiles import fp7_of
from engines.turbomind.bench.timing import random
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.hopper_cut import HopperCut, Kind
from engines.turbomind.ops.linear_hopper import linear_codes, linear_dense
from engines.turbomind.ops.linear_skinny import MOST_ROWS, linear_skinny

LayerKind = Kind | Literal["nibble", "fp7"]  # fp7: e4m3 with a copy in 7 bits
GROUP_SIZE = 128
_BYTES: dict[LayerKind, float] = {
    "dense": 2,
    "e4m3": 1,
    "int8": 1,
    "fp7": 7 / 8,
    "nibble": 0.5 + 3 / GROUP_SIZE,
}

Layer = Dense | Fp8 | Int8 | Int4


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows of x as a kind of layer takes them."""

    x_TI: Tensor
    codes_TI: Tensor
    scale_T: Tensor


def num_bytes(kind: LayerKind, outputs: int, inputs: int) -> float:
    """Return what a layer's weight takes, scales of groups included."""
    return outputs * inputs * _BYTES[kind]


def make_layer(kind: LayerKind, outputs: int, inputs: int) -> Layer:
    """Return a random layer on the GPU whose outputs are about as large as its inputs."""
    size = inputs**-0.5
    scale_O = (torch.rand(outputs, device="cuda") + 0.5) * size
    match kind:
        case "dense":
            return Dense(weight_OI=random(outputs, inputs) * size, bias_O=None)
        case "e4m3" | "fp7":
            weight = random(outputs, inputs).to(torch.float8_e4m3fn)
            copy = fp7_of(weight, scale_O) if kind == "fp7" else None
            return Fp8(weight_OI=weight, scale_O=scale_O, bias_O=None, fp7=copy)
        case "int8":
            codes = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8, device="cuda")
            return Int8(weight_OI=codes, scale_O=scale_O / 73, bias_O=None)  # codes spread by 73
        case "nibble":
            groups = inputs // GROUP_SIZE
            return int4_tiles.linear_int4(
                torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device="cuda"),
                scales_GO=((torch.rand(groups, outputs, device="cuda") + 0.5) * size / 6.5).half(),
                zeros_GO=torch.randint(0, 16, (groups, outputs), dtype=torch.uint8, device="cuda"),
            )


def make_rows(kind: LayerKind, num_rows: int, inputs: int) -> Rows:
    """Return random rows; codes of them where the kind multiplies codes."""
    x = random(num_rows, inputs)
    codes, scale = quantize_rows_int8(x) if kind == "int8" else quantize_rows_fp8(x)
    return Rows(x_TI=x, codes_TI=codes, scale_T=scale[:, 0].contiguous())


def product(gpu: Gpu, rows: Rows, layer: Layer, cut: HopperCut | None) -> Tensor:
    """Return the kernel's result."""
    match layer:
        case Dense():
            return linear_dense(gpu, rows.x_TI, layer, cut=cut)
        case Int4():
            raise ValueError("4-bit codes are another kernel's: `int4_cuts.py`")
        case _:
            return linear_codes(gpu, rows.codes_TI, rows.scale_T, layer, torch.bfloat16, cut=cut)


def exact(rows: Rows, layer: Layer) -> Tensor:
    """Return the product in fp32."""
    match layer:
        case Dense():
            return F.linear(rows.x_TI.float(), layer.weight_OI.float())
        case Int4():
            return F.linear(rows.x_TI.float(), int4_tiles.dequantize(layer, torch.float32))
        case _:
            codes = F.linear(rows.codes_TI.float(), layer.weight_OI.float())
            return codes * rows.scale_T[:, None] * layer.scale_O


def todays(gpu: Gpu, kind: Kind, rows: Rows) -> dict[str, Callable[[Layer], Tensor]]:
    """Return what else can take the product, by name."""
    match kind:
        case "dense":
            ways: dict[str, Callable[[Layer], Tensor]] = {"cuBLASLt": partial(_dense, rows)}
            if len(rows.x_TI) <= MOST_ROWS:
                ways["skinny"] = partial(_skinny, gpu, rows)
            return ways
        case "e4m3":
            return {
                "_scaled_mm": partial(_scaled_mm, rows, fast=True),
                "exact_sums": partial(_scaled_mm, rows, fast=False),
            }
        case "int8":
            return {"_int_mm": partial(_int_mm, rows)} if len(rows.x_TI) > 16 else {}


def _dense(rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Dense), "the way belongs to dense layers"
    return F.linear(rows.x_TI, layer.weight_OI)


def _skinny(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Dense), "the way belongs to dense layers"
    return linear_skinny(gpu, rows.x_TI, layer)


def _scaled_mm(rows: Rows, layer: Layer, *, fast: bool) -> Tensor:
    assert isinstance(layer, Fp8), "the way belongs to fp8 layers"
    return torch._scaled_mm(
        rows.codes_TI,
        layer.weight_OI.t(),
        scale_a=rows.scale_T[:, None],
        scale_b=layer.scale_O[None],
        out_dtype=torch.bfloat16,
        use_fast_accum=fast,
    )


def _int_mm(rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Int8), "the way belongs to int8 layers"
    return torch._int_mm(rows.codes_TI, layer.weight_OI.t())
