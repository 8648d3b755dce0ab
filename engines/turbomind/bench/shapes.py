"""Compares cuts of the attention kernels: `python -m engines.turbomind.bench.shapes`."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import torch

from engines.turbomind.bench.attention import decodes_of, fulls, prefills
from engines.turbomind.bench.attention_cases import DIM, HEADS, KV_HEADS
from engines.turbomind.bench.table import Ceilings, Row, heading, line
from engines.turbomind.bench.timing import copy_ceiling_gbps, matmul_ceiling_tflops
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.decode_shape import DecodeShape, shared_bytes
from engines.turbomind.ops.flash_shape import make_shape

# warps, stages, blocks an SM
DECODE = ((4, 3, 2), (4, 2, 2), (2, 3, 3), (8, 2, 1), (4, 5, 1), (8, 3, 1))
# warps, 16-row tiles a warp, keys a tile, keys a span, blocks an SM
PREFILL = ((4, 2, 64, 32, 2), (4, 2, 32, 32, 2), (4, 1, 64, 64, 2), (8, 2, 64, 32, 1))
FULL = ((4, 2, 64, 64, 2), (4, 2, 64, 32, 2), (4, 2, 64, 32, 3), (4, 2, 128, 64, 2), (4, 1, 64, 64, 3))


def _decode_rows(gpu: Gpu) -> Iterator[tuple[str, Row]]:
    for warps, stages, blocks in DECODE:
        needed = shared_bytes(warps=warps, stages=stages, dim=DIM, group=HEADS // KV_HEADS)
        shape = DecodeShape(warps=warps, stages=stages, blocks_per_sm=blocks, shared_bytes=needed)
        yield from ((f"{warps}/{stages}/{blocks}", row) for row in decodes_of(gpu, "none", shape))


def _flash_rows(gpu: Gpu) -> Iterator[tuple[str, Row]]:
    for cut in PREFILL:
        shape = make_shape(*cut, dim=DIM)
        yield from (("/".join(map(str, cut)), row) for row in prefills(gpu, shape))
    for cut in FULL:
        shape = make_shape(*cut, dim=64)
        yield from (("/".join(map(str, cut)), row) for row in fulls(gpu, shape))


def main() -> None:
    """Measure every cut at every case."""
    gpu = Gpu(torch.device("cuda"))
    ceilings = Ceilings(gbps=copy_ceiling_gbps(), tflops=matmul_ceiling_tflops())
    print(heading())
    for name, row in chain(_decode_rows(gpu), _flash_rows(gpu)):
        print(line(replace(row, op=f"{row.op[10:]} {name}"), ceilings), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
