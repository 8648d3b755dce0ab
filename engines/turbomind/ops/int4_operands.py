"""What the kernels of 4-bit weights demand of a layer and its inputs.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Int4
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, rows

TILE_OUTPUTS = 16


def has_whole_slabs(weight: Int4, slab: int) -> bool:
    """Return whether the inputs are whole slabs, and groups of scales are whole parts or multiples of one."""
    size = weight.group_size
    inputs = weight.scales_GO.shape[0] * size
    return inputs % slab == 0 and (size % slab == 0 or size in (32, 64))


def permuted_rows(x_TI: Tensor, weight: Int4) -> Tensor:
    """Return contiguous rows [T, I] with their inputs in the order of the codes."""
    return rows(x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I))


def check_int4(gpu: Gpu, op: str, x_TI: Tensor, weight: Int4) -> None:
    """Hold the operands of a product to what a launch believes of them."""
    inputs = weight.scales_GO.shape[0] * weight.group_size
    check(gpu, op, x=(x_TI, x_TI.dtype, (x_TI.shape[0], inputs)), **layer_operands(weight, x_TI.dtype))


def layer_operands(
    weight: Int4, dtype: torch.dtype
) -> dict[str, tuple[Tensor, torch.dtype, tuple[int, ...]]]:
    """Return what `operands.check` holds a layer with results of a dtype to."""
    groups, outputs = weight.scales_GO.shape
    inputs, bias = groups * weight.group_size, weight.bias_O
    return {
        "tiles": (weight.tiles_XYB, torch.uint8, (-(-outputs // TILE_OUTPUTS), inputs // 64, 512)),
        "scales": (weight.scales_GO, torch.float16, (groups, outputs)),
        "zeros": (weight.zeros_GO, torch.uint8, (groups, outputs)),
        **({} if bias is None else {"bias": (bias, dtype, (outputs,))}),
    }
