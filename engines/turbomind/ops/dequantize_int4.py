"""Launches `kernels/dequantize_int4.cu`."""

import torch
from torch import Tensor

from engines.ops import Int4
from engines.turbomind.gpu import SCALARS, Gpu
from engines.turbomind.operands import check

_THREADS = 256
_TILES_A_BLOCK = 32  # four a warp


def fits(weight: Int4) -> bool:
    """Return whether the kernel takes the groups and the width of this layer."""
    inputs = len(weight.scales_GO) * weight.group_size
    return inputs % 64 == 0 and weight.group_size % 16 == 0


def dequantize_int4(gpu: Gpu, weight: Int4, dtype: torch.dtype) -> Tensor:
    """Return the weight as a matrix [O, I] of bf16 or fp16, columns in the order of `perm`."""
    groups, outputs = weight.scales_GO.shape
    inputs = groups * weight.group_size
    tiles_x, tiles_y = -(-outputs // 16), inputs // 64
    check(
        gpu,
        "dequantize_int4",
        tiles=(weight.tiles_XYB, torch.uint8, (tiles_x, tiles_y, 512)),
        scales=(weight.scales_GO, torch.float16, (groups, outputs)),
        zeros=(weight.zeros_GO, torch.uint8, (groups, outputs)),
    )
    out = torch.empty(outputs, inputs, dtype=dtype, device=weight.scales_GO.device)
    constants = (("SCALAR", SCALARS[dtype]), ("INPUTS", inputs), ("GROUP_INPUTS", weight.group_size))
    kernel = gpu.kernel("dequantize_int4.cu", "dequantize_int4", constants, "PPPPi", threads=_THREADS)
    kernel(
        gpu.stream(),
        (tiles_x, -(-tiles_y // _TILES_A_BLOCK)),
        weight.tiles_XYB.data_ptr(),
        weight.scales_GO.data_ptr(),
        weight.zeros_GO.data_ptr(),
        out.data_ptr(),
        outputs,
    )
    return out
