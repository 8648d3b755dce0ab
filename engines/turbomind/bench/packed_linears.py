"""Cases of the linear layers of Hopper by the format of their weight, as the launchers cut them.

Of weights in 12 and 4 bits `vs torch` is the library's product with the weight in 16 bits, which needs no
unpacking; of codes of 8 bits, and of 7, it is the library's product of codes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Fp8, Int4, Int8
from engines.quant.bf12_shape import bf12_bytes
from engines.quant.bf12_tiles import bf12_of
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_operands import (
    Layer,
    LayerKind,
    Rows,
    make_layer,
    make_rows,
    num_bytes,
    product,
)
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.linear_bf12 import linear_bf12
from engines.turbomind.ops.linear_codes import library_codes
from engines.turbomind.ops.linear_even import linear_even
from engines.turbomind.ops.linear_fp7 import linear_fp7
from engines.turbomind.ops.linear_int4_hopper import linear_int4_hopper
from engines.turbomind.ops.linear_skinny_int4 import linear_skinny_int4

CODES_RATE = 2.0  # products of 8 bits a clock over those of bf16: H200 datasheet, 2024-11


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One kernel with one format of weights, at the numbers of rows for which the engine takes it."""

    op: str
    kind: LayerKind
    num_rows: tuple[int, ...]
    call: Callable[[Gpu, Rows, Layer], Tensor]
    names: tuple[str, ...] = ("qkv", "gate_up", "down")
    packed: bool = False  # in 12 bits
    rate: float = 1.0


def packed_linears(gpu: Gpu) -> Iterator[Row]:
    """Yield every format, layer and number of rows."""
    hopper = partial(Case, op="linear_hopper", call=partial(product, cut=None))
    cases = (
        hopper(kind="dense", num_rows=(64, 128)),
        Case(op="linear_even", kind="dense", num_rows=(192, 256), call=_even, names=("gate_up",)),
        Case(op="linear_bf12", kind="dense", num_rows=(1, 8, 32, 64, 128), call=_bf12, packed=True),
        hopper(kind="e4m3", num_rows=(8, 64, 256), rate=CODES_RATE),
        hopper(kind="int8", num_rows=(32, 64, 256), rate=CODES_RATE),
        Case(op="linear_fp7", kind="fp7", num_rows=(1, 8, 32, 64, 128), call=_fp7, rate=CODES_RATE),
        Case(op="linear_skinny_int4", kind="nibble", num_rows=(1, 8), call=_skinny_int4),
        Case(op="linear_int4_hopper", kind="nibble", num_rows=(16, 64, 256), call=_int4_hopper),
    )
    for case in cases:
        for name in case.names:
            yield from _rows_of(gpu, case, name)


def _rows_of(gpu: Gpu, case: Case, name: str) -> Iterator[Row]:
    outputs, inputs = LINEARS[name]
    size = bf12_bytes(outputs, inputs) if case.packed else num_bytes(case.kind, outputs, inputs)
    layers = [make_layer(case.kind, outputs, inputs) for _ in range(num_sets(int(size)))]
    if case.packed:
        layers = [
            Dense(weight_OI=layer.weight_OI, bias_O=None, bf12=bf12_of(layer.weight_OI))
            for layer in layers
            if isinstance(layer, Dense)
        ]
    of_torch = [make_layer("dense", outputs, inputs) for _ in layers] if case.kind == "nibble" else layers
    for num_rows in case.num_rows:
        rows = make_rows(case.kind, num_rows, inputs)
        yield Row(
            op=case.op,
            shape=f"M={num_rows} {case.kind} {name} {outputs}x{inputs}",
            us=time_us([partial(case.call, gpu, rows, layer) for layer in layers]),
            num_bytes=size,
            num_flops=2.0 * num_rows * outputs * inputs,
            rate=case.rate,
            torch_us=time_us([partial(_library, rows, layer) for layer in of_torch]),
        )


def _library(rows: Rows, layer: Layer) -> Tensor:
    match layer:
        case Dense():
            return F.linear(rows.x_TI, layer.weight_OI)
        case Fp8() | Int8():
            return library_codes(rows.codes_TI, rows.scale_T, layer, torch.bfloat16)
        case Int4():
            raise ValueError("the library has no codes of 4 bits")


def _even(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Dense), "the layers of this case have 16 bits"
    return linear_even(gpu, rows.x_TI, layer)


def _bf12(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Dense) and layer.bf12 is not None, "the layers of this case are packed"
    return linear_bf12(gpu, rows.x_TI, layer.bf12, None)


def _fp7(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Fp8) and layer.fp7 is not None, "the layers of this case have copies"
    return linear_fp7(gpu, rows.codes_TI, rows.scale_T, layer.fp7, None)


def _skinny_int4(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Int4), "the layers of this case are codes of 4 bits"
    return linear_skinny_int4(gpu, rows.x_TI, layer)


def _int4_hopper(gpu: Gpu, rows: Rows, layer: Layer) -> Tensor:
    assert isinstance(layer, Int4), "the layers of this case are codes of 4 bits"
    return linear_int4_hopper(gpu, rows.x_TI, layer)
