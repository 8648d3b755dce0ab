"""What the products of a Hopper GPU that copy whole lines demand of a weight and its inputs.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check
from engines.turbomind.tensor_map import GROUP_ROWS

_FLOATS = (torch.bfloat16, torch.float16)
_CODES = {torch.float8_e4m3fn: "e4m3", torch.int8: "int8"}


def takes(gpu: Gpu, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False) -> bool:
    """Return whether such a kernel can take products with a weight; not whether it is the fastest way."""
    outputs, inputs = weight.weight_OI.shape
    line_bytes = inputs * weight.weight_OI.element_size()
    return weight.weight_OI.is_contiguous() and takes_shape(gpu, dtype, outputs, line_bytes, gated=gated)


def takes_shape(gpu: Gpu, dtype: torch.dtype, outputs: int, line_bytes: int, *, gated: bool = False) -> bool:
    """Return the same for a contiguous weight of so many rows of so many bytes."""
    if gpu.capability != (9, 0) or dtype not in _FLOATS:
        return False
    return outputs % (2 * GROUP_ROWS if gated else GROUP_ROWS) == 0 and line_bytes % 16 == 0


def weight_name(weight: Dense | Fp8 | Int8, scalar: str) -> str:
    """Return the kernels' name of a weight's elements; plain ones are those of the results."""
    return _CODES.get(weight.weight_OI.dtype, scalar)


def check_product(
    gpu: Gpu, op: str, x_TI: Tensor, row_scale_T: Tensor | None, weight: Dense | Fp8 | Int8, out: Tensor
) -> None:
    """Hold the operands of a product, with the scales that codes have, to what a launch believes of them."""
    outputs, inputs = weight.weight_OI.shape
    wanted: dict[str, tuple[Tensor, torch.dtype, tuple[int, ...]]] = {
        "x": (x_TI, weight.weight_OI.dtype, (len(x_TI), inputs)),
        "weight": (weight.weight_OI, weight.weight_OI.dtype, (outputs, inputs)),
    }
    if not isinstance(weight, Dense):
        assert row_scale_T is not None, "codes have a scale a row"
        wanted["row_scale"] = (row_scale_T, torch.float32, (len(x_TI),))
        wanted["scale"] = (weight.scale_O, torch.float32, (outputs,))
    if weight.bias_O is not None:
        wanted["bias"] = (weight.bias_O, out.dtype, (outputs,))
    check(gpu, op, **wanted)
