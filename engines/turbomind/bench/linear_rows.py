"""Cuts of `linear_rows` and `linear_columns` at InternViT-300M's layers, against cuBLASLt and ops behind it.

    python -m engines.turbomind.bench.linear_rows [TILES ...]

Each cut is first compared with the product in fp32. `ops` is the library's product, then GELU or the scaled
sum as ops of their own; * is what each kernel prefers. Of `linear_columns` (rows x groups of 64 outputs; `s`:
two blocks share the inputs) those three that should take the least, of those that are done at once.
"""

import sys
from collections.abc import Mapping
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense
from engines.turbomind.bench.timing import random, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.activation import gelu, scaled_add
from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.columns_choice import columns_us, cuts_at_once
from engines.turbomind.ops.columns_cut import ColumnsCut
from engines.turbomind.ops.linear_columns import constants as columns_constants
from engines.turbomind.ops.linear_columns import linear_columns
from engines.turbomind.ops.linear_rows import constants, linear_rows
from engines.turbomind.ops.rows_cut import CUTS, RowsCut, make_cut, rows_cut

TILES = (1, 2, 3, 4, 6, 8, 13)
TOKENS = 1025  # of a tile
# Outputs, inputs and what follows.
LAYERS: dict[str, tuple[int, int, After]] = {
    "qkv": (3072, 1024, "nothing"),
    "o": (1024, 1024, "add"),
    "fc1": (4096, 1024, "gelu"),
    "fc2": (1024, 4096, "add"),
}
SETS = 8  # weights that take turns, as the layers of a tower do
TOLERANCE = 5e-3
AFTERS: tuple[After, ...] = ("nothing", "gelu", "add")  # what the layers of a tower are followed by


def main(counts: list[int]) -> None:
    """Print a line for each layer and number of tiles."""
    gpu = Gpu(torch.device("cuda"))
    room = gpu.shared_bytes_per_block
    cuts = {f"{cut[0]}/{cut[1]}": make_cut(*cut, bytes_per_block=room) for cut in CUTS}
    every = [constants("bf16", cut, after) for cut, after in product(cuts.values(), AFTERS)]
    modules = [("linear_rows.cu", each) for each in every]
    for tiles, (outputs, inputs, after) in product(counts, LAYERS.values()):
        for cut in columns_cuts(gpu, tiles * TOKENS, outputs, inputs, after).values():
            modules.append(("linear_columns.cu", columns_constants("bf16", cut, after)))
    compile_all(gpu.cubins, modules)
    for tiles, layer in product(counts, LAYERS):
        print(line(gpu, tiles * TOKENS, layer, cuts), flush=True)


def columns_cuts(gpu: Gpu, num_rows: int, outputs: int, inputs: int, after: After) -> dict[str, ColumnsCut]:
    """Return the three fastest cuts of `linear_columns` by their costs, the first one first."""
    room = gpu.shared_bytes_per_block
    cuts = cuts_at_once(num_rows, outputs, inputs, num_sms=gpu.num_sms, bytes_per_block=room)
    best = sorted(cuts, key=lambda cut: columns_us(cut, inputs, after))[:3]
    return {f"{cut.rows}x{cut.groups}{'s' if cut.cluster == 2 else ''}": cut for cut in best}


def line(gpu: Gpu, num_rows: int, name: str, cuts: Mapping[str, RowsCut | ColumnsCut]) -> str:
    """Return the times of one product: the library's, then each cut's."""
    outputs, inputs, after = LAYERS[name]
    x, residual, scale = random(num_rows, inputs), random(num_rows, outputs), random(outputs)
    layers = [
        Dense(weight_OI=random(outputs, inputs) * inputs**-0.5, bias_O=random(outputs)) for _ in range(SETS)
    ]
    call = partial(in_one, gpu, x, residual, scale, after)
    wanted = exact(x, layers[0], residual, scale, after)
    preferred = rows_cut(num_rows, outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
    shown = []
    narrow = columns_cuts(gpu, num_rows, outputs, inputs, after)
    for label, cut in {**cuts, **narrow}.items():
        mark = "*" if cut == preferred or label == next(iter(narrow), None) else ""
        error = ((call(cut, layers[0]).float() - wanted).norm() / wanted.norm()).item()
        us = time_us([partial(call, cut, layer) for layer in layers])
        shown.append((us, f"{label}{mark} {us:.1f}{'' if error < TOLERANCE else f' WRONG {error:.2g}'}"))
    library = time_us([partial(F.linear, x, layer.weight_OI, layer.bias_O) for layer in layers])
    ops = time_us([partial(apart, gpu, x, residual, scale, after, layer) for layer in layers])
    flops = 2e-6 * num_rows * outputs * inputs
    best = min(us for us, _ in shown)
    figures = f"library {library:6.1f} ({flops / library:.0f} TFLOP/s) ops {ops:6.1f} best {best:6.1f}"
    times = "  ".join(text for _, text in shown)
    return f"{name:<4} M={num_rows:<6} {figures} ({flops / best:.0f}) | {times}"


def in_one(
    gpu: Gpu,
    x: Tensor,
    residual: Tensor,
    scale: Tensor,
    after: After,
    cut: RowsCut | ColumnsCut,
    layer: Dense,
) -> Tensor:
    """Return what the cut's kernel gives."""
    added = {"residual_TO": residual, "scale_O": scale} if after == "add" else {}
    if isinstance(cut, ColumnsCut):
        return linear_columns(gpu, x, layer, cut, after=after, **added)
    return linear_rows(gpu, x, layer, after=after, cut=cut, **added)


def apart(gpu: Gpu, x: Tensor, residual: Tensor, scale: Tensor, after: After, layer: Dense) -> Tensor:
    """Return the same by the library and an op for what follows."""
    y = F.linear(x, layer.weight_OI, layer.bias_O)
    if after == "add":
        return scaled_add(gpu, residual, y, scale)
    return gelu(gpu, y) if after == "gelu" else y


def exact(x: Tensor, layer: Dense, residual: Tensor, scale: Tensor, after: After) -> Tensor:
    """Return the result in fp32."""
    assert layer.bias_O is not None, "the bench's layers have one"
    y = x.float() @ layer.weight_OI.float().T + layer.bias_O.float()
    if after == "gelu":
        return F.gelu(y)
    return residual.float() + y * scale.float() if after == "add" else y


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        main([int(count) for count in sys.argv[1:]] or list(TILES))
