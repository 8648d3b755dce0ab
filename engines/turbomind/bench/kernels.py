"""Prints the kernel table at InternVL2-8B's shapes: `python -m engines.turbomind.bench.kernels [family ...]`.

Every op runs inside a CUDA graph over operand sets that together exceed the L2, save where no number of sets
would (one row of a norm). Given is the median of the replays, against ceilings measured in the same process.
"""

import sys
from collections.abc import Callable, Iterator

import torch

from engines.turbomind.bench.attention import before_hopper, decodes, fulls, prefills, prefills_of_codes
from engines.turbomind.bench.choice import choices
from engines.turbomind.bench.codes import codes, unpacked
from engines.turbomind.bench.elementwise import activations, norms, ropes
from engines.turbomind.bench.linear import linears
from engines.turbomind.bench.many_rows import gated_tiles, tower_products
from engines.turbomind.bench.packed_linears import packed_linears
from engines.turbomind.bench.pictures import patches, photos
from engines.turbomind.bench.step_rows import steps
from engines.turbomind.bench.table import Ceilings, Row, heading, line
from engines.turbomind.bench.timing import copy_ceiling_gbps, matmul_ceiling_tflops
from engines.turbomind.gpu import Gpu
from engines.turbomind.nvrtc import nvrtc_version

FAMILIES: dict[str, Callable[[Gpu], Iterator[Row]]] = {
    "norm": norms,
    "activation": activations,
    "rope": ropes,
    "attention_decode": decodes,
    "attention_prefill": prefills,
    "attention_prefill_codes": prefills_of_codes,
    "attention_full": fulls,
    "attention_before_hopper": before_hopper,
    "linear_skinny": linears,
    "linear_packed": packed_linears,
    "linear_tiles": gated_tiles,
    "tower": tower_products,
    "patch_rows": patches,
    "cut_tiles": photos,
    "codes": codes,
    "dequantize": unpacked,
    "choose_token": choices,
    "step_rows": steps,
}


def main(chosen: list[str]) -> None:
    """Measure the families named, or all."""
    unknown = sorted(set(chosen) - set(FAMILIES))
    if unknown:
        raise SystemExit(f"unknown families {', '.join(unknown)}: there are {', '.join(sorted(FAMILIES))}")
    gpu = Gpu(torch.device("cuda"))
    ceilings = Ceilings(gbps=copy_ceiling_gbps(), tflops=matmul_ceiling_tflops())
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, NVRTC {nvrtc_version()}, {gpu.arch}")
    print(f"ceilings measured here: {ceilings.gbps:.0f} GB/s copy, {ceilings.tflops:.0f} TFLOP/s bf16")
    print(heading())
    for name in chosen or FAMILIES:
        for row in FAMILIES[name](gpu):
            print(line(row, ceilings), flush=True)
    print(f"{gpu.cubins.compiled} modules compiled in {gpu.cubins.compile_seconds:.1f} s")


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
