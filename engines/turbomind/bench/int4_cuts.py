"""Compares cuts of `linear_int4_hopper`; `linear.py` runs it for the kind `nibble`.

Every cut is checked against fp32 before it is timed; weights come from memory. Up to 8 rows are
`linear_skinny_int4`'s, the way of the engine there.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Int4
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_operands import GROUP_SIZE, exact, make_layer, make_rows, num_bytes
from engines.turbomind.bench.timing import num_sets, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.dequantize_int4 import dequantize_int4
from engines.turbomind.ops.int4_cut import Int4Cut, int4_cut, make_cut
from engines.turbomind.ops.linear import linear
from engines.turbomind.ops.linear_int4_hopper import linear_int4_hopper
from engines.turbomind.ops.two_rings_cut import ROWS, rows_of_cut

# Limits of one H200, kernels/LOG.md: GB/s of a copy; TFLOP/s of 8192 x 8192 x 8192 in bf16.
LIMIT_GBPS, LIMIT_TFLOPS = 4300.0, 790.0
NUM_ROWS = (64, 32, 16, 8, 128, 256)
NAMES = ("qkv", "o", "gate_up", "down")
# One rounding to bf16, 0.0017 on average, and sums of fp32 in another order.
TOLERANCE = 3e-3
CUTS = ((1, 4, 1), (1, 3, 1), (1, 4, 2), (1, 3, 2), (1, 2, 2), (2, 2, 1), (2, 1, 1), (4, 1, 1))


def main(*, seconds: float) -> None:
    """Print a line for each layer and number of rows until the time is over."""
    gpu = Gpu(torch.device("cuda"))
    torch.backends.cuda.matmul.allow_tf32 = False
    end = time.monotonic() + seconds
    cases = [(num_rows, name) for name in NAMES for num_rows in NUM_ROWS]
    cuts = {case: list(_cuts(gpu, *case)) for case in cases}
    found = {cut for those in cuts.values() for cut in those}
    compile_all(gpu.cubins, [("linear_int4_hopper.cu", cut.constants("bf16", GROUP_SIZE)) for cut in found])
    layers = {
        name: [_layer(name) for _ in range(num_sets(int(num_bytes("nibble", *LINEARS[name]))))]
        for name in NAMES
    }
    for number, (num_rows, name) in enumerate(cases):
        if time.monotonic() > end:
            print(f"nibble: time is over, {len(cases) - number} cases left out")
            break
        print(_line(gpu, num_rows, name, layers[name], cuts[num_rows, name]), flush=True)


def _layer(name: str) -> Int4:
    layer = make_layer("nibble", *LINEARS[name])
    assert isinstance(layer, Int4), "nibbles are 4-bit codes"
    return layer


def _line(gpu: Gpu, num_rows: int, name: str, layers: list[Int4], cuts: list[Int4Cut]) -> str:
    outputs, inputs = LINEARS[name]
    rows = make_rows("nibble", num_rows, inputs)
    wanted = exact(rows, layers[0])
    ways: dict[str, Callable[[Int4], Tensor]] = {"engine": partial(linear, gpu, rows.x_TI)}
    for number, cut in enumerate(cuts):
        label = f"{cut.label()}{'' if number else '*'}"
        ways[label] = partial(linear_int4_hopper, gpu, rows.x_TI, cut=cut)
    if num_rows > 32:
        ways["unpacked"] = partial(_unpacked, gpu, rows.x_TI)
    times: list[tuple[float, str]] = []
    for label, way in ways.items():
        error = ((way(layers[0]).float() - wanted).norm() / wanted.norm()).item()
        wrong = "" if error < TOLERANCE or label == "unpacked" else f" WRONG {error:.2g}"
        times.append((time_us([partial(way, layer) for layer in layers]), label + wrong))
    size = num_bytes("nibble", outputs, inputs)
    floor = max(size / LIMIT_GBPS / 1e3, 2e-6 * num_rows * outputs * inputs / LIMIT_TFLOPS)
    best = min(us for us, _ in times)
    shown = "  ".join(f"{label} {us:.1f}" for us, label in times)
    share = f"floor {floor:5.1f} best {best:6.1f} {100 * floor / best:3.0f}%"
    return f"nibble M={num_rows:<3} {name:<7} {share} | {shown}"


def _unpacked(gpu: Gpu, x_TI: Tensor, layer: Int4) -> Tensor:
    return F.linear(x_TI, dequantize_int4(gpu, layer, x_TI.dtype))


def _cuts(gpu: Gpu, num_rows: int, name: str) -> Iterator[Int4Cut]:
    """Yield the preferred cut, then those of the list that make a wave of blocks, or two of 128 rows."""
    outputs, inputs = LINEARS[name]
    first = int4_cut(
        num_rows=num_rows,
        outputs=outputs,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
        inputs=inputs,
        group_size=GROUP_SIZE,
    )
    assert first is not None, "the layers of the bench fit"
    yield first
    seen = {first}
    rows = rows_of_cut(num_rows)
    for groups, turns, cluster in CUTS:
        cut = make_cut(
            rows=rows,
            groups=groups,
            turns=turns,
            cluster=cluster,
            shared_bytes=gpu.shared_bytes_per_block,
            inputs=inputs,
            group_size=GROUP_SIZE,
        )
        if cut is None or cut in seen:
            continue
        waves = cut.num_blocks(rows, outputs) / gpu.num_sms
        if 0.35 <= waves <= (2 if rows == ROWS[-1] else 1):
            seen.add(cut)
            yield cut


if __name__ == "__main__":
    with torch.inference_mode():
        main(seconds=float(sys.argv[1]))
