"""Compares cuts of `linear_fp7`, and with them what reads 8 bits; `linear.py` runs it for the kind `fp7`.

Every cut is checked against fp32 before it is timed; weights come from memory, codes of x are made before.
gate_up is gated.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Fp8
from engines.quant.fp7_shape import fp7_bytes
from engines.quant.fp7_tiles import fp7_of, weight_of
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.fp7_cut import Fp7Cut, fp7_cut, make_cut
from engines.turbomind.ops.linear_codes import product_of_codes
from engines.turbomind.ops.linear_fp7 import linear_fp7
from engines.turbomind.ops.linear_hopper import linear_codes
from engines.turbomind.ops.quantize_rows import quantize_rows
from engines.turbomind.ops.two_rings_cut import rows_of_cut

LIMIT_GBPS = 4300.0  # of one H200, kernels/LOG.md: a copy
NUM_ROWS = (1, 8, 16, 32, 64, 128)
GATED = "gate_up"
TOLERANCE = {False: 3e-3, True: 6e-3}  # one rounding to bf16; with gates three
# groups, turns, cluster; KB of x by rows
SHAPES = (
    (1, 3, 1),
    (1, 3, 2),
    (1, 2, 2),
    (1, 4, 2),
    (2, 2, 1),
    (2, 1, 1),
    (2, 2, 2),
    (2, 1, 2),
    (3, 1, 1),
    (4, 1, 1),
)
X_KB = {8: (16, 32), 16: (32, 64), 32: (48, 64, 96), 64: (64, 96, 144), 128: (96, 128)}

Codes = tuple[Tensor, Tensor]  # and the scale of each row


def main(*, seconds: float) -> None:
    """Print a line for each layer and number of rows until the time is over."""
    gpu = Gpu(torch.device("cuda"))
    end = time.monotonic() + seconds
    cases = [(name, num_rows) for name in LINEARS for num_rows in NUM_ROWS]
    cuts = {case: list(cuts_of(gpu, *case)) for case in cases}
    found = {cut for those in cuts.values() for cut in those}
    compile_all(gpu.cubins, [("linear_fp7.cu", cut.constants()) for cut in found])
    layers: dict[str, list[Fp8]] = {}
    for number, (name, num_rows) in enumerate(cases):
        if time.monotonic() > end:
            print(f"fp7: time is over, {len(cases) - number} cases left out")
            break
        if name not in layers:
            layers = {name: [layer_of(name) for _ in range(num_sets(fp7_bytes(*LINEARS[name])))]}
        print(_line(gpu, name, num_rows, layers[name], cuts[name, num_rows]), flush=True)


def layer_of(name: str) -> Fp8:
    """Return a layer of random codes with its copy."""
    outputs, inputs = LINEARS[name]
    weight = random(outputs, inputs) * inputs**-0.5
    scale_O = weight.abs().amax(dim=1).float() / 448
    codes = (weight / scale_O[:, None]).clamp_(-448, 448).to(torch.float8_e4m3fn)
    fp7 = fp7_of(codes, scale_O)
    assert fp7 is not None, "codes without NaN are packed"
    return Fp8(weight_OI=codes, scale_O=scale_O, bias_O=None, fp7=fp7)


def _line(gpu: Gpu, name: str, num_rows: int, layers: list[Fp8], cuts: list[Fp7Cut]) -> str:
    gated = name == GATED
    x = quantize_rows(gpu, random(num_rows, LINEARS[name][1]), torch.float8_e4m3fn)
    wanted = wanted_of(x, layers[0], gated=gated)
    ways: dict[str, Callable[[Fp8], Tensor]] = {"8 bits": partial(whole, gpu, x, gated)}
    for number, cut in enumerate(cuts):
        ways[f"{cut.label()}{'' if number else '*'}"] = partial(packed, gpu, x, cut)
    times: list[tuple[float, str]] = []
    for label, way in ways.items():
        error = ((way(layers[0]).float() - wanted).norm() / wanted.norm()).item()
        wrong = "" if error < TOLERANCE[gated] else f" WRONG {error:.2g}"
        times.append((time_us([partial(way, layer) for layer in layers], replays=9), label + wrong))
    floor, best = fp7_bytes(*LINEARS[name]) / LIMIT_GBPS / 1e3, min(us for us, _ in times)
    shown = "  ".join(f"{label} {us:.1f}" for us, label in times)
    return f"fp7 M={num_rows:<3} {name:<7} floor {floor:5.1f} best {best:6.1f} {floor / best:4.0%} | {shown}"


def wanted_of(x: Codes, layer: Fp8, *, gated: bool) -> Tensor:
    """Return the product of the copy in fp32, with its gates where `gated`."""
    assert layer.fp7 is not None, "`layer_of` makes one"
    wanted = x[0].float() @ weight_of(layer.fp7).T * x[1][:, None]
    if not gated:
        return wanted
    gate, up = wanted.bfloat16().float().chunk(2, dim=-1)
    return F.silu(gate).bfloat16().float() * up


def whole(gpu: Gpu, x: Codes, gated: bool, layer: Fp8) -> Tensor:
    """Return what the engine makes of the weight in 8 bits."""
    layer = replace(layer, fp7=None)
    if gated:
        return linear_codes(gpu, *x, layer, torch.bfloat16, gated=True)
    return product_of_codes(gpu, *x, layer, torch.bfloat16)


def packed(gpu: Gpu, x: Codes, cut: Fp7Cut, layer: Fp8) -> Tensor:
    """Return what the kernel makes of the copy."""
    assert layer.fp7 is not None, "`layer_of` makes one"
    return linear_fp7(gpu, *x, layer.fp7, None, gated=cut.gated, cut=cut)


def cuts_of(gpu: Gpu, name: str, num_rows: int) -> Iterator[Fp7Cut]:
    """Yield the preferred cut, then those of the list that make about a wave of blocks, the head some."""
    (outputs, inputs), room, gated = LINEARS[name], gpu.shared_bytes_per_block, name == GATED
    first = fp7_cut(
        num_rows=num_rows,
        outputs=outputs,
        inputs=inputs,
        num_sms=gpu.num_sms,
        bytes_per_block=room,
        gated=gated,
    )
    assert first is not None, "the layers of the bench fit"
    yield first
    seen = {first}
    rows = rows_of_cut(num_rows)
    for groups, turns, cluster in SHAPES:
        for kb in X_KB[rows]:
            cut = make_cut(
                rows=rows,
                groups=groups,
                turns=turns,
                cluster=cluster,
                gated=gated,
                x_bytes=kb * (1024 + 8),
                inputs=inputs,
                shared_bytes=room,
            )
            if cut is None or cut in seen:
                continue
            waves = cut.num_blocks(rows, outputs // (2 if gated else 1)) / gpu.num_sms
            if 0.35 <= waves <= (4 if name == "head" else 1):
                seen.add(cut)
                yield cut


if __name__ == "__main__":
    with torch.inference_mode():
        main(seconds=float(sys.argv[1]))
