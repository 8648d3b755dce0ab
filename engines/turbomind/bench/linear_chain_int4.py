"""Prints the time of 4-bit layers between attentions: `python -m engines.turbomind.bench.linear_chain_int4`.

In one kernel, of few rows and of more, and as ops apart: 32 different layers of InternVL2-8B's decoder
behind each other in a graph, the results held to each other before. Floor: codes, scales and zero points at
the speed of a copy.
"""

from functools import partial

import torch
from torch import Tensor

from engines.ops import BetweenAttentions, Weight
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_operands import make_layer, num_bytes
from engines.turbomind.bench.timing import copy_ceiling_gbps, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.layer_products import layer_products
from engines.turbomind.ops_table import TurbomindOps

NUM_ROWS = (1, 2, 4, 8, 16, 32, 64)
NUM_LAYERS = 32
HIDDEN = 4096
# Some ten roundings to bf16 on the way, of which the kernel leaves out two.
TOLERANCE = 1e-2


def main() -> None:
    """Print a line for each number of rows."""
    gpu = Gpu(torch.device("cuda"))
    layers = [_between() for _ in range(NUM_LAYERS)]
    num = sum(num_bytes("nibble", *LINEARS[name]) for name in ("qkv", "o", "gate_up", "down"))
    floor = num / copy_ceiling_gbps() / 1e3
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: us a layer, floor {floor:.1f}")
    for num_rows in NUM_ROWS:
        attended, residual = random(num_rows, HIDDEN), random(num_rows, HIDDEN)
        ways = {"one kernel": partial(_together, gpu), "apart": partial(_apart, TurbomindOps(gpu))}
        error = max(map(_error, *(way(attended, residual, layers[0]) for way in ways.values())))
        times = {
            name: time_us([partial(way, attended, residual, layer) for layer in layers])
            for name, way in ways.items()
        }
        wrong = "" if error < TOLERANCE else f"  WRONG {error:.2g}"
        shown = "  ".join(f"{name} {us:.1f} ({100 * floor / us:.0f}%)" for name, us in times.items())
        print(f"M={num_rows}  {shown}{wrong}", flush=True)


def _between() -> BetweenAttentions:
    def layer(name: str) -> Weight:
        return make_layer("nibble", *LINEARS[name])

    return BetweenAttentions(
        o=layer("o"),
        ffn_norm_H=1 + 0.1 * random(HIDDEN),
        gate_up=layer("gate_up"),
        down=layer("down"),
        norm_H=1 + 0.1 * random(HIDDEN),
        qkv=layer("qkv"),
        eps=1e-5,
    )


def _together(
    gpu: Gpu, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor]:
    results = layer_products(gpu, attended_TA, residual_TH, between)
    assert results is not None, "so many rows of these layers go through one kernel"
    return results


def _apart(
    ops: TurbomindOps, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor]:
    x_TH, residual_TH = ops.add_rms_norm_ffn(
        ops.linear(attended_TA, between.o),
        residual_TH,
        between.ffn_norm_H,
        between.eps,
        between.gate_up,
        between.down,
    )
    return ops.add_rms_norm_linear(x_TH, residual_TH, between.norm_H, between.eps, between.qkv)


def _error(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted.float()).norm() / wanted.float().norm())


if __name__ == "__main__":
    with torch.inference_mode():
        main()
