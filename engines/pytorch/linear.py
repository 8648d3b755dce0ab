"""Linear layers of every kind of weight, in plain torch: the truth for the kernels.

Types and their formulas stand in `engines/ops.py`. Quantized products are summed in fp32 and rounded once.

Legend: T rows, O outputs, I inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Dense12, Fp8, Int4, Int8, Weight
from engines.quant.bf12_tiles import weight_of
from engines.quant.int4_tiles import dequantize

E4M3_MAX = 448.0  # the largest finite e4m3
_LEAST_SCALE = 1e-12  # a row of zeros: any scale gives its codes


def linear(x_TI: Tensor, weight: Weight) -> Tensor:
    """Return x @ W.T + b in the dtype of x, any leading axes."""
    match weight:
        case Dense():
            return F.linear(x_TI, weight.weight_OI, weight.bias_O)
        case Dense12():
            return F.linear(x_TI, weight_of(weight.bf12).to(x_TI.dtype), weight.bias_O)
        case Int4():
            x_TI = x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I)
            return F.linear(x_TI, dequantize(weight, x_TI.dtype), weight.bias_O)
        case Fp8():
            codes_TI, scale_T1 = quantize_rows_fp8(x_TI)
        case Int8():
            codes_TI, scale_T1 = quantize_rows_int8(x_TI)
    y_TO = F.linear(codes_TI.float(), weight.weight_OI.float()) * scale_T1 * weight.scale_O
    if weight.bias_O is not None:
        y_TO += weight.bias_O
    return y_TO.to(x_TI.dtype)


def quantize_rows_fp8(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """Return (e4m3 codes, fp32 scale [..., 1]) of each row."""
    scale_T1 = _scale(x_TI, E4M3_MAX)
    return (x_TI.float() / scale_T1).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale_T1


def quantize_rows_int8(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """Return (int8 codes, fp32 scale [..., 1]) of each row, ties to even."""
    scale_T1 = _scale(x_TI, 127.0)
    return (x_TI.float() / scale_T1).round().clamp(-127, 127).to(torch.int8), scale_T1


def _scale(x_TI: Tensor, largest: float) -> Tensor:
    # NOTE: torch multiplies by 1 / number on a GPU where it divides on a CPU; tensors it divides on both.
    top_T1 = x_TI.abs().amax(-1, keepdim=True).float()
    return (top_T1 / torch.full_like(top_T1, largest)).clamp(min=_LEAST_SCALE)
