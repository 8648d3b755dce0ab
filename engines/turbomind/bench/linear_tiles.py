"""Cuts of `linear_tiles` at a decoder's layers of many rows, against the library and the ops that follow it.

    python -m engines.turbomind.bench.linear_tiles [KIND ...] [--rows N ...] [--layers NAME ...]

Kinds are dense, e4m3 and int8; times are those of `--seconds` after as many of the same. Each cut is first
compared with the product in fp32. `gated` is gate_up with the gate inside, against the library's product and
the op that gates; * is what the engine takes.
"""

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.timing import random, sustained_us, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.activation import silu_mul
from engines.turbomind.ops.linear_codes import library_codes
from engines.turbomind.ops.linear_tiles import constants, linear_tiles, linear_tiles_codes
from engines.turbomind.ops.quantize_rows import quantize_rows, silu_mul_codes
from engines.turbomind.ops.tiles_cut import CUTS, TilesCut, make_cut, tiles_cut

CODES = {"e4m3": torch.float8_e4m3fn, "int8": torch.int8}
NUM_ROWS = (8192, 2048, 1024, 512)
SETS = 3  # weights that take turns, as the layers of a decoder do
TOLERANCE = {"dense": 4e-3, "int8": 4e-3, "e4m3": 6e-3}  # of a result that is rounded to bf16
Layer = Dense | Fp8 | Int8


def main() -> None:
    """Print a line for each kind, layer and number of rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["int8", "e4m3", "dense"])
    parser.add_argument("--rows", nargs="*", type=int, default=NUM_ROWS)
    parser.add_argument("--layers", nargs="*", default=["qkv", "o", "gate_up", "down", "gated"])
    parser.add_argument("--seconds", type=float, default=0.2)
    asked = parser.parse_args()
    gpu = Gpu(torch.device("cuda"))
    room = gpu.shared_bytes_per_block
    cuts = [make_cut(*cut, bytes_per_block=room) for cut in CUTS]
    print(torch.cuda.get_device_name())
    every = [
        constants("bf16", "bf16" if kind == "dense" else kind, cut, gated=gated)
        for kind in asked.kinds
        for cut in cuts
        for gated in (False, True)
    ]
    compile_all(gpu.cubins, [("linear_tiles.cu", each) for each in every])
    for kind in asked.kinds:
        for name in asked.layers:
            for line in lines(gpu, kind, name, asked.rows, cuts, asked.seconds):
                print(line, flush=True)


def lines(
    gpu: Gpu, kind: str, name: str, all_rows: list[int], cuts: list[TilesCut], seconds: float
) -> list[str]:
    """Return a line for each number of rows of one layer."""
    gated = name == "gated"
    outputs, inputs = LINEARS["gate_up" if gated else name]
    layers = [make_layer(gpu, kind, outputs, inputs) for _ in range(SETS)]
    found = []
    for num_rows in all_rows:
        x = random(num_rows, inputs)
        codes, scale = quantize_rows(gpu, x, CODES[kind]) if kind in CODES else (x, None)
        call = partial(product, gpu, codes, scale, gated)
        wanted = exact(gpu, codes, scale, layers[0], gated)
        used = tiles_cut(num_rows, outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
        shown = []
        for cut in cuts:
            label = f"{cut.columns}/{cut.cluster}{'*' if cut == used else ''}"
            error = ((call(cut, layers[0]).float() - wanted).norm() / wanted.norm()).item()
            us = sustained_us([partial(call, cut, layer) for layer in layers], seconds=seconds)
            text = f"{label} {us:.1f}{'' if error < TOLERANCE[kind] else f' WRONG {error:.2g}'}"
            shown.append((us, text))
        del wanted
        library = sustained_us(
            [partial(by_library, gpu, codes, scale, gated, layer) for layer in layers], seconds=seconds
        )
        best, flops = min(us for us, _ in shown), 2e-6 * num_rows * outputs * inputs
        rates = f"library {library:7.1f} ({flops / library:4.0f} T/s) best {best:7.1f} ({flops / best:4.0f})"
        found.append(f"{kind} {name:<7} M={num_rows:<5} {rates} | {'  '.join(text for _, text in shown)}")
        if gated and kind in CODES:
            found.append(codes_line(gpu, kind, num_rows, outputs // 2))
    return found


def codes_line(gpu: Gpu, kind: str, num_rows: int, ffn: int) -> str:
    """Return what it takes to make codes of rows that are gated already, and of rows that are not."""
    done, halves = random(num_rows, ffn), random(num_rows, 2 * ffn)
    plain = time_us([partial(quantize_rows, gpu, done, CODES[kind])] * 2, replays=9)
    gating = time_us([partial(silu_mul_codes, gpu, halves, CODES[kind])] * 2, replays=9)
    return f"{kind} codes   M={num_rows:<5} gated already {plain:.1f}, gating {gating:.1f}"


def make_layer(gpu: Gpu, kind: str, outputs: int, inputs: int) -> Layer:
    """Return a random layer of normal weights whose outputs are about as large as its inputs."""
    weight = random(outputs, inputs) * inputs**-0.5
    if kind == "dense":
        return Dense(weight_OI=weight, bias_O=None)
    codes, scale = quantize_rows(gpu, weight, CODES[kind])
    return (Fp8 if kind == "e4m3" else Int8)(weight_OI=codes, scale_O=scale, bias_O=None)


def product(
    gpu: Gpu, x: Tensor, scale: Tensor | None, gated: bool, cut: TilesCut | None, layer: Layer
) -> Tensor:
    """Return what `linear_tiles` gives."""
    if isinstance(layer, Dense):
        return linear_tiles(gpu, x, layer, gated=gated, cut=cut)
    assert scale is not None, "codes have scales"
    return linear_tiles_codes(gpu, x, scale, layer, torch.bfloat16, gated=gated, cut=cut)


def by_library(gpu: Gpu, x: Tensor, scale: Tensor | None, gated: bool, layer: Layer) -> Tensor:
    """Return the same by the library and the op that gates."""
    if isinstance(layer, Dense):
        y = F.linear(x, layer.weight_OI)
    else:
        assert scale is not None, "codes have scales"
        y = library_codes(x, scale, layer, torch.bfloat16)
    return silu_mul(gpu, y) if gated else y


def exact(gpu: Gpu, x: Tensor, scale: Tensor | None, layer: Layer, gated: bool) -> Tensor:
    """Return the result from a product in fp32."""
    y = F.linear(x.float(), layer.weight_OI.float())
    if scale is not None and not isinstance(layer, Dense):
        y = y * scale[:, None] * layer.scale_O
    return silu_mul(gpu, y.bfloat16()).float() if gated else y


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        main()
