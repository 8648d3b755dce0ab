"""Compares cuts of `linear_bf12`, and with them what reads 16 bits; `linear.py` runs it for the kind `bf12`.

Every cut is checked against fp32 before it is timed; weights come from memory. gate_up is gated.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Bf12, Dense
from engines.quant.bf12_shape import bf12_bytes
from engines.quant.bf12_tiles import bf12_of
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.activation import silu_mul
from engines.turbomind.ops.bf12_cut import Bf12Cut, bf12_cut, make_cut
from engines.turbomind.ops.linear import linear
from engines.turbomind.ops.linear_bf12 import linear_bf12
from engines.turbomind.ops.linear_choice import gates
from engines.turbomind.ops.linear_hopper import linear_dense
from engines.turbomind.ops.two_rings_cut import rows_of_cut

LIMIT_GBPS = 4300.0  # of one H200, kernels/LOG.md: a copy
NUM_ROWS = (1, 8, 16, 32, 64, 128)
GATED = "gate_up"
TOLERANCE = {False: 3e-3, True: 6e-3}  # one rounding to bf16; with gates three
# groups, turns, cluster; KB of x
SHAPES = ((1, 4, 1), (1, 3, 1), (1, 4, 2), (1, 3, 2), (1, 2, 2), (2, 2, 1), (2, 2, 2), (4, 1, 1))
X_KB = (32, 64, 96, 128, 144)

Layer = tuple[Dense, Bf12]


def main(*, seconds: float) -> None:
    """Print a line for each layer and number of rows until the time is over."""
    gpu = Gpu(torch.device("cuda"))
    torch.backends.cuda.matmul.allow_tf32 = False
    end = time.monotonic() + seconds
    cases = [(name, num_rows) for name in LINEARS for num_rows in NUM_ROWS]
    cuts = {case: list(_cuts(gpu, *case)) for case in cases}
    found = {cut for those in cuts.values() for cut in those}
    compile_all(gpu.cubins, [("linear_bf12.cu", cut.constants()) for cut in found])
    layers: dict[str, list[Layer]] = {}
    for number, (name, num_rows) in enumerate(cases):
        if time.monotonic() > end:
            print(f"bf12: time is over, {len(cases) - number} cases left out")
            break
        if name not in layers:
            layers = {name: [_layer(name) for _ in range(num_sets(bf12_bytes(*LINEARS[name])))]}
        print(_line(gpu, name, num_rows, layers[name], cuts[name, num_rows]), flush=True)


def _layer(name: str) -> Layer:
    outputs, inputs = LINEARS[name]
    weight = random(outputs, inputs) * inputs**-0.5
    bf12 = bf12_of(weight)
    assert bf12 is not None, "normal numbers are packed"
    return Dense(weight_OI=weight, bias_O=None), bf12


def _line(gpu: Gpu, name: str, num_rows: int, layers: list[Layer], cuts: list[Bf12Cut]) -> str:
    outputs, inputs = LINEARS[name]
    gated, x = name == GATED, random(num_rows, inputs)
    wanted = F.linear(x.float(), layers[0][0].weight_OI.float())
    if gated:
        gate, up = wanted.to(x.dtype).float().chunk(2, dim=-1)
        wanted = F.silu(gate).to(x.dtype).float() * up
    ways: dict[str, Callable[[Layer], Tensor]] = {"16 bits": partial(_whole, gpu, x, gated)}
    for number, cut in enumerate(cuts):
        ways[f"{cut.label()}{'' if number else '*'}"] = partial(_packed, gpu, x, cut)
    times: list[tuple[float, str]] = []
    for label, way in ways.items():
        error = ((way(layers[0]).float() - wanted).norm() / wanted.norm()).item()
        wrong = "" if error < TOLERANCE[gated] else f" WRONG {error:.2g}"
        times.append((time_us([partial(way, layer) for layer in layers], replays=9), label + wrong))
    floor, best = bf12_bytes(outputs, inputs) / LIMIT_GBPS / 1e3, min(us for us, _ in times)
    shown = "  ".join(f"{label} {us:.1f}" for us, label in times)
    return f"bf12 M={num_rows:<3} {name:<7} floor {floor:5.1f} best {best:6.1f} {floor / best:4.0%} | {shown}"


def _whole(gpu: Gpu, x_TI: Tensor, gated: bool, layer: Layer) -> Tensor:
    """Return what the engine makes of the weight in 16 bits."""
    dense, (outputs, _) = layer[0], layer[0].weight_OI.shape
    if not gated:
        return linear(gpu, x_TI, dense)
    if gates("dense", num_rows=len(x_TI), outputs=outputs, num_sms=gpu.num_sms) == "hopper":
        return linear_dense(gpu, x_TI, dense, gated=True)
    return silu_mul(gpu, linear(gpu, x_TI, dense))


def _packed(gpu: Gpu, x_TI: Tensor, cut: Bf12Cut, layer: Layer) -> Tensor:
    return linear_bf12(gpu, x_TI, layer[1], None, gated=cut.gated, cut=cut)


def _cuts(gpu: Gpu, name: str, num_rows: int) -> Iterator[Bf12Cut]:
    """Yield the preferred cut, then those of the list that make about a wave of blocks, the head some."""
    (outputs, inputs), room, gated = LINEARS[name], gpu.shared_bytes_per_block, name == GATED
    first = bf12_cut(
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
        for kb in X_KB:
            cut = make_cut(
                rows=rows,
                groups=groups,
                turns=turns,
                cluster=cluster,
                gated=gated,
                x_bytes=kb * 1024,
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
