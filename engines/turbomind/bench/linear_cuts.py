"""Compares cuts of `linear_hopper` for one kind of weight; `linear.py` runs it for each kind.

Every cut is checked against fp32 at one size of each layer before it is timed; weights come from memory.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import get_args

import torch

from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_operands import (
    Layer,
    exact,
    make_layer,
    make_rows,
    num_bytes,
    product,
    todays,
)
from engines.turbomind.bench.timing import num_sets, time_us
from engines.turbomind.compile_ahead import compile_all
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.hopper_cut import ROWS, HopperCut, Kind, hopper_cut, make_cut, most_rows
from engines.turbomind.ops.linear_hopper import constants

# Limits of one H200, kernels/LOG.md and shared measurements: GB/s of a copy; TFLOP/s of 8192 x 8192 x 8192.
LIMIT_GBPS, LIMIT_TFLOPS = 4300.0, {"dense": 790.0, "e4m3": 1448.0, "int8": 1448.0}
NUM_ROWS: dict[Kind, tuple[int, ...]] = {
    "dense": (128, 64, 32, 256),
    "e4m3": (128, 64, 1, 256, 32),
    "int8": (128, 256, 64),
}
TOLERANCE = (
    3e-3  # one rounding to bf16, 2^-9 at most and 0.0017 on average, and sums of fp32 in another order
)
# Groups, warpgroups that take turns, blocks of a cluster, lines, the ring in parts of shared memory (1 / n).
# Further ones were slower at every size, kernels/LOG.md.
CUTS = (
    (1, 1, 1, 1, 2),
    (1, 1, 2, 1, 1),
    (1, 1, 2, 1, 2),
    (2, 1, 1, 1, 1),
    (2, 1, 1, 1, 2),
    (4, 1, 1, 1, 1),
    (1, 1, 2, 2, 2),
    (2, 1, 1, 2, 1),
    (2, 1, 1, 2, 2),
    (2, 1, 2, 2, 1),
    (3, 1, 1, 2, 2),
    (4, 1, 1, 2, 2),
    (1, 4, 2, 2, 1),
    (1, 4, 2, 2, 2),
    (1, 2, 1, 2, 1),
    (1, 2, 1, 2, 2),
    (1, 2, 2, 2, 1),
    (1, 2, 2, 2, 2),
    (2, 2, 1, 2, 2),
    (2, 2, 2, 2, 2),
    (1, 3, 2, 2, 2),
)


def main(kind: Kind, *, seconds: float) -> None:
    """Print a line for each layer and number of rows, the most wanted first, until the time is over."""
    gpu = Gpu(torch.device("cuda"))
    torch.backends.cuda.matmul.allow_tf32 = False
    end = time.monotonic() + seconds
    names = [name for name in LINEARS if kind == "dense" or name != "head"]
    cases = [(rows, name) for rows in NUM_ROWS[kind] for name in names]
    candidates = {case: list(_cuts(gpu, kind, *case)) for case in cases}
    found = {cut for cuts in candidates.values() for cut in cuts}
    compile_all(gpu.cubins, [("linear_hopper.cu", constants(kind, cut, "bf16")) for cut in found])
    layers = {
        name: [
            make_layer(kind, *LINEARS[name]) for _ in range(num_sets(int(num_bytes(kind, *LINEARS[name]))))
        ]
        for name in names
    }
    for number, (rows, name) in enumerate(cases):
        if time.monotonic() > end:
            print(f"{kind}: time is over, {len(cases) - number} cases left out")
            break
        print(_line(gpu, kind, rows, name, layers[name], candidates[rows, name]), flush=True)


def _line(gpu: Gpu, kind: Kind, num_rows: int, name: str, layers: list[Layer], cuts: list[HopperCut]) -> str:
    outputs, inputs = LINEARS[name]
    rows = make_rows(kind, num_rows, inputs)
    wanted, size = exact(rows, layers[0]), num_bytes(kind, outputs, inputs)
    times: list[tuple[float, str]] = []
    for number, cut in enumerate(cuts):
        torch.full(
            (num_rows, outputs), torch.nan, dtype=torch.bfloat16, device="cuda"
        )  # poisons what is reused
        got = product(gpu, rows, layers[0], cut)
        error = ((got.float() - wanted).norm() / wanted.norm()).item()
        label = f"{cut.label()}{'' if cut.lines == 1 else 'w'}{'' if number else '*'}"
        if not error < TOLERANCE:
            times.append((float("inf"), f"{label} WRONG {error:.2g}"))
            continue
        times.append((time_us([partial(product, gpu, rows, layer, cut) for layer in layers]), label))
    for label, way in todays(gpu, kind, rows).items():
        times.append((time_us([partial(way, layer) for layer in layers]), label))
    floor = max(size / LIMIT_GBPS / 1e3, 2e-6 * num_rows * outputs * inputs / LIMIT_TFLOPS[kind])
    best = min(us for us, _ in times)
    shown = "  ".join(f"{label} {us:.1f}" if us < 1e9 else label for us, label in times)
    share = f"floor {floor:5.1f} best {best:6.1f} {100 * floor / best:3.0f}%"
    return f"{kind:<6} M={num_rows:<3} {name:<7} {share} | {shown}"


def _cuts(gpu: Gpu, kind: Kind, num_rows: int, name: str) -> Iterator[HopperCut]:
    """Yield the preferred cut, then those of the list that make about one wave of blocks."""
    outputs, inputs = LINEARS[name]
    shared = gpu.shared_bytes_per_block
    if kind == "e4m3" and num_rows > most_rows(kind):
        return  # the library's ways are compared with each other
    first = hopper_cut(
        kind,
        num_rows=min(num_rows, most_rows(kind)),
        outputs=outputs,
        inputs=inputs,
        num_sms=gpu.num_sms,
        bytes_per_block=shared,
    )
    yield first
    seen = {first}
    rows = next(rows for rows in ROWS if rows >= min(num_rows, most_rows(kind)))
    for groups, k_groups, cluster, lines, share in CUTS:
        cut = make_cut(
            kind,
            rows=rows,
            groups=groups,
            k_groups=k_groups,
            cluster=cluster,
            lines=lines,
            inputs=inputs,
            shared_bytes=shared // share - 1024 * (share - 1),
        )
        if cut is None or cut in seen or lines == 2:
            continue
        blocks = cut.num_blocks(outputs)
        if blocks >= 0.35 * gpu.num_sms and (blocks <= 2 * gpu.num_sms or (name == "head" and cluster == 1)):
            seen.add(cut)
            yield cut


if __name__ == "__main__":
    with torch.inference_mode():
        asked = sys.argv[1]
        kind = next((kind for kind in get_args(Kind) if kind == asked), None)
        if kind is None:
            raise SystemExit(f"kind `{asked}`: must be one of {', '.join(sorted(get_args(Kind)))}")
        main(kind, seconds=float(sys.argv[2]))
