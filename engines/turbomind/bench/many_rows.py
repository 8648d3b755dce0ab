"""Cases of products of many rows: a prompt's gate_up with its gate, and the layers of InternViT-300M.

Times are those after a tenth of a second of the same: large products draw all the power that a GPU may take.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_rows import LAYERS, TOKENS
from engines.turbomind.bench.linear_tiles import CODES, by_library, make_layer, product
from engines.turbomind.bench.packed_linears import CODES_RATE
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import random, sustained_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_columns, linear_rows
from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.linear_after import linear_after, linear_tower
from engines.turbomind.ops.quantize_rows import quantize_rows

PROMPT_ROWS, SETS, SECONDS = 8192, 3, 0.1
TILES = (1, 2, 8, 13)


def gated_tiles(gpu: Gpu) -> Iterator[Row]:
    """Yield gate_up of a prompt in every format that `linear_tiles` reads."""
    outputs, inputs = LINEARS["gate_up"]
    for kind in ("dense", *CODES):
        layers: list[Dense | Fp8 | Int8] = [make_layer(gpu, kind, outputs, inputs) for _ in range(SETS)]
        x = random(PROMPT_ROWS, inputs)
        codes, scale = quantize_rows(gpu, x, CODES[kind]) if kind in CODES else (x, None)
        yield Row(
            op="linear_tiles",
            shape=f"M={PROMPT_ROWS} {kind} gate_up, gated",
            us=_sustained([partial(product, gpu, codes, scale, True, None, layer) for layer in layers]),
            num_bytes=layers[0].weight_OI.nbytes + codes.nbytes + PROMPT_ROWS * outputs,
            num_flops=2.0 * PROMPT_ROWS * outputs * inputs,
            rate=CODES_RATE if kind in CODES else 1.0,
            torch_us=_sustained([partial(by_library, gpu, codes, scale, True, layer) for layer in layers]),
        )


def tower_products(gpu: Gpu) -> Iterator[Row]:
    """Yield the layers of a vision tower, with what follows them, that the engine leaves to no library."""
    for name, (outputs, inputs, after) in LAYERS.items():
        for tiles in TILES:
            row = _tower_row(gpu, name, outputs, inputs, after, num_rows=tiles * TOKENS)
            if row is not None:
                yield row


def _tower_row(gpu: Gpu, name: str, outputs: int, inputs: int, after: After, *, num_rows: int) -> Row | None:
    layers = [Dense(weight_OI=random(outputs, inputs), bias_O=random(outputs)) for _ in range(8)]
    x, residual, scale = random(num_rows, inputs), random(num_rows, outputs), random(outputs)
    adds = after == "add"
    if linear_columns.cut_of(gpu, x, layers[0], after) is not None:
        op = "linear_columns"
    elif after != "nothing" and linear_rows.takes(layers[0], gpu, x):
        op = "linear_rows"
    else:
        return None
    if after == "nothing":
        calls = [partial(linear_tower, gpu, x, layer) for layer in layers]
    else:
        added = (residual, scale) if adds else (None, None)
        calls = [partial(_followed, gpu, x, layer, after, *added) for layer in layers]
    elements = num_rows * (inputs + outputs * (2 if adds else 1)) + outputs * inputs
    return Row(
        op=op,
        shape=f"M={num_rows} {name} {outputs}x{inputs} {after}",
        us=_sustained(calls),
        num_bytes=2 * elements,
        num_flops=2.0 * num_rows * outputs * inputs,
        torch_us=_sustained([partial(_by_torch, x, residual, scale, after, layer) for layer in layers]),
    )


def _followed(
    gpu: Gpu, x: Tensor, layer: Dense, after: After, residual: Tensor | None, scale: Tensor | None
) -> Tensor:
    out = linear_after(gpu, x, layer, after, residual_TO=residual, scale_O=scale)
    assert out is not None, "one of the two kernels takes it"
    return out


def _by_torch(x: Tensor, residual: Tensor, scale: Tensor, after: After, layer: Dense) -> Tensor:
    y = F.linear(x, layer.weight_OI, layer.bias_O)
    match after:
        case "gelu":
            return F.gelu(y)
        case "add":
            return torch.addcmul(residual, y, scale)
        case _:
            return y


def _sustained(calls: list[partial[Tensor]]) -> float:
    return sustained_us(calls, seconds=SECONDS)
