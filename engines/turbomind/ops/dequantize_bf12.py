"""Launches `kernels/dequantize_bf12.cu`."""

import torch
from torch import Tensor

from engines.ops import Bf12
from engines.quant.bf12_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check

_THREADS = 256
_TILES_A_BLOCK = 8  # a warp each


def dequantize_bf12(gpu: Gpu, weight: Bf12) -> Tensor:
    """Return the matrix that the numbers stand for, bf16 [O, I]."""
    outputs, slabs = len(weight.factor_O), len(weight.tiles_YXB)
    check(
        gpu,
        "dequantize_bf12",
        tiles=(weight.tiles_YXB, torch.uint8, (slabs, outputs // TILE_OUTPUTS, TILE_BYTES)),
        factors=(weight.factor_O, torch.bfloat16, (outputs,)),
    )
    out = torch.empty(outputs, slabs * TILE_INPUTS, dtype=torch.bfloat16, device=weight.factor_O.device)
    kernel = gpu.kernel(
        "dequantize_bf12.cu", "dequantize_bf12", (("INPUTS", slabs * TILE_INPUTS),), "PPPi", threads=_THREADS
    )
    kernel(
        gpu.stream(),
        (outputs // TILE_OUTPUTS, -(-slabs // _TILES_A_BLOCK)),
        weight.tiles_YXB.data_ptr(),
        weight.factor_O.data_ptr(),
        out.data_ptr(),
        outputs,
    )
    return out
