"""Cases of the linear layer for few rows, against cuBLASLt.

`python -m engines.turbomind.bench.linear [KIND ...]` compares the cuts of `linear_hopper` for each kind of
weight, dense, e4m3, int8, and those of `linear_int4_hopper`: nibble, `linear_bf12`: bf12, `linear_fp7`: fp7.
Each kind runs in a process of its own, since a kernel that faults takes its process's context with it.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch.nn.functional as F

from engines.ops import Dense
from engines.quant.bf12_shape import bf12_bytes
from engines.quant.bf12_tiles import bf12_of
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.linear_skinny import linear_skinny
from engines.turbomind.ops.linear_skinny_bf12 import MOST_ROWS, linear_skinny_bf12

NUM_ROWS = (1, 8, 16, 32)


def linears(gpu: Gpu) -> Iterator[Row]:
    """Yield every linear layer of a decoder at several batch sizes."""
    for name, (outputs, inputs) in LINEARS.items():
        size = outputs * inputs * 2
        weights = [random(outputs, inputs) for _ in range(num_sets(size))]
        layers = [Dense(weight_OI=weight, bias_O=None, bf12=bf12_of(weight)) for weight in weights]
        for num_rows in NUM_ROWS:
            x = random(num_rows, inputs)
            row = Row(
                op="linear_skinny",
                shape=f"M={num_rows} {name} {outputs}x{inputs}",
                us=time_us([partial(linear_skinny, gpu, x, layer) for layer in layers]),
                num_bytes=size,
                num_flops=2.0 * num_rows * outputs * inputs,
                torch_us=time_us([partial(F.linear, x, weight) for weight in weights]),
            )
            yield row
            if num_rows > MOST_ROWS:
                continue
            copies = [layer.bf12 for layer in layers if layer.bf12 is not None]
            us = time_us([partial(linear_skinny_bf12, gpu, x, copy, None) for copy in copies])
            yield replace(row, op="linear_skinny_bf12", us=us, num_bytes=bf12_bytes(outputs, inputs))


# Seconds of measuring, without start and compilation.
SECONDS = {"dense": 30.0, "nibble": 30.0, "bf12": 30.0, "fp7": 20.0, "e4m3": 20.0, "int8": 10.0}
_APART = {
    "nibble": "int4_cuts",
    "bf12": "bf12_cuts",
    "fp7": "fp7_cuts",
}  # kinds whose cuts another module compares
_STARTING = 30.0  # seconds: imports, compilation, random weights


def main(kinds: list[str]) -> int:
    """Run every kind in turn; return how many failed."""
    print(
        "groups, turns, cluster / stages us; w: wide stages; *: the preferred cut; best of all ways",
        flush=True,
    )
    failed = 0
    unknown = sorted(set(kinds) - set(SECONDS))
    if unknown:
        raise SystemExit(f"kinds `{', '.join(unknown)}`: must be of {', '.join(sorted(SECONDS))}")
    for kind, seconds in SECONDS.items():
        if kinds and kind not in kinds:
            continue
        module = [_APART[kind]] if kind in _APART else ["linear_cuts", kind]
        command = [sys.executable, "-m", f"engines.turbomind.bench.{module[0]}", *module[1:], str(seconds)]
        try:
            done = subprocess.run(command, timeout=seconds + _STARTING)
            failure = f"ended with {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = "hangs"
        if failure:
            failed += 1
            print(f"{kind}: {failure}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
