"""Prints what work costs in energy: `python -m engines.turbomind.bench.joules PART ...`, parts as in `PARTS`.

From some tens of rows on a GPU runs at its limit of power, with a clock that is lower the more its kernels
draw: in a whole step the kernel that takes the least energy wins, which need not be the fastest alone. Each
line is the mean of `--seconds` of the same after a second of the same: time and energy of a call, energy of
a unit of its work, power of the GPU, clock of its SMs.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import torch

from engines.options import KvFormat
from engines.turbomind.bench.decode_variants import VARIANTS
from engines.turbomind.bench.energy import EnergyMeter, Spent, spent
from engines.turbomind.bench.energy_cases import Asked, Case, attention, copies, products, prompts, steps
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.gpu import Gpu

# Parts, and the rows that each is measured at where none are given: rows of x, or sequences.
PARTS: dict[str, tuple[Callable[[Gpu, Asked], Iterator[Case]], tuple[int, ...]]] = {
    "copies": (copies, ()),
    "products": (products, (64, 128, 256, 8192)),
    "attention": (attention, (64, 128, 256)),
    "steps": (steps, (64, 128, 256)),
    "prompts": (prompts, (8192,)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each case of the parts."""
    words = _parser().parse_args(arguments)
    device, meter = torch.device("cuda"), EnergyMeter()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for part in words.parts:
        cases, rows = PARTS[part]
        asked = Asked(
            rows=tuple(words.rows or rows),
            kinds=tuple(words.kinds),
            layers=tuple(words.layers),
            kv=tuple(words.kv),
            variants=tuple(words.variants),
        )
        for case in cases(Gpu(device), asked):
            print(
                line(f"{part} {case.name}", case, spent(meter, case.calls, seconds=words.seconds)), flush=True
            )


def line(name: str, case: Case, cost: Spent) -> str:
    """Return the line of a case."""
    of_unit = cost.millijoules / case.amount
    scale, prefix = (1, "m") if of_unit > 1e-3 else (1e9, "p")
    return (
        f"{name:<48} {cost.us:>10.1f} us {cost.millijoules:>9.2f} mJ "
        f"{scale * of_unit:>8.3f} {prefix}J/{case.unit:<5} {cost.watts:>4.0f} W {cost.mhz:>5.0f} MHz"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="joules")
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--rows", nargs="*", type=int)
    parser.add_argument("--kinds", nargs="*", choices=["dense", "e4m3", "int8"], default=["dense"])
    parser.add_argument("--layers", nargs="*", choices=list(LINEARS), default=["qkv", "o", "gate_up", "down"])
    parser.add_argument("--kv", nargs="*", choices=get_args(KvFormat), default=["none"])
    parser.add_argument(
        "--variants", nargs="*", choices=list(VARIANTS), default=["engine", "no-overlap", "cublas"]
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    return parser


if __name__ == "__main__":
    with torch.inference_mode():
        main()
