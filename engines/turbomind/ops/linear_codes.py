"""Linear layers of 8-bit codes: rows are rounded to codes of the weight's type, and codes are multiplied.

Legend: as in `engines/ops.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Fp7, Fp8, Int8, Weight
from engines.parallel import TpGroup
from engines.pytorch import linear as torch_linear
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_even, linear_fp7, linear_hopper, linear_tiles
from engines.turbomind.ops.linear_choice import reads_fp7, way
from engines.turbomind.ops.norm_of_sum import add_rms_norm_codes
from engines.turbomind.ops.quantize_rows import quantize_rows, silu_mul_codes

# Rows that cuBLASLt multiplies in e4m3 at once: calls of 8,192 rows were up to 22 % slower on one of two
# H200, calls of 2,048 up to 7 % on the other, kernels/LOG.md.
_LIBRARY_ROWS = 4096
# Rows of int8 whose int32 and fp32 sums wait in memory at once: with 28,672 outputs 0.23 GB in place of 1.9.
_SUM_ROWS = 1024


def codes_linear(gpu: Gpu, x_TI: Tensor, weight: Fp8 | Int8, num_rows: int) -> Tensor:
    """Return x @ W.T + b in the dtype of x, which is rounded to codes, a scale a row, first."""
    if not multiplies_codes(gpu, x_TI.dtype, weight, num_rows):
        return torch_linear.linear(x_TI, weight)
    codes_TI, scale_T = quantize_rows(gpu, x_TI, weight.weight_OI.dtype)
    return product_of_codes(gpu, codes_TI, scale_T, weight, x_TI.dtype).view(*x_TI.shape[:-1], -1)


def silu_mul_linear(gpu: Gpu, gate_up_T2F: Tensor, weight: Weight) -> Tensor | None:
    """Return linear(silu(first half) * second half) for weights of 8 bits, or None where it is two ops."""
    if not isinstance(weight, Fp8 | Int8) or gate_up_T2F.dim() != 2:
        return None
    if not multiplies_codes(gpu, gate_up_T2F.dtype, weight, len(gate_up_T2F)):
        return None
    codes_TF, scale_T = silu_mul_codes(gpu, gate_up_T2F, weight.weight_OI.dtype)
    return product_of_codes(gpu, codes_TF, scale_T, weight, gate_up_T2F.dtype)


def add_rms_norm_linear(
    gpu: Gpu,
    x_TH: Tensor,
    residual_TH: Tensor,
    norm_H: Tensor,
    eps: float,
    weight: Weight,
    group: TpGroup | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Return (linear(rms_norm(x + residual) * norm), x + residual), or None where it is two ops.

    With a group x is this rank's addend, as in `engines/ops.py`; None leaves it as it was.
    """
    if not isinstance(weight, Fp8 | Int8) or x_TH.dim() != 2:
        return None
    if not multiplies_codes(gpu, x_TH.dtype, weight, len(x_TH)):
        return None
    dtype = weight.weight_OI.dtype
    codes_TH, scale_T, sum_TH = add_rms_norm_codes(gpu, x_TH, residual_TH, norm_H, eps, dtype, group)
    return product_of_codes(gpu, codes_TH, scale_T, weight, x_TH.dtype), sum_TH


def product_of_codes(
    gpu: Gpu, codes_TI: Tensor, scale_T: Tensor, weight: Fp8 | Int8, dtype: torch.dtype
) -> Tensor:
    """Return (codes @ W.T) * row scale * output scale + b as `dtype`; codes are of the weight's type."""
    num_rows = len(codes_TI)
    if fp7 := fp7_read(gpu, num_rows, dtype, weight):
        return linear_fp7.linear_fp7(gpu, codes_TI, scale_T, fp7, weight.bias_O)
    kind, outputs = linear_hopper.kind_of(weight), weight.weight_OI.shape[0]
    chosen = way(kind, num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms)
    if chosen == "hopper" and linear_hopper.fits(gpu, num_rows, dtype, weight):
        return linear_hopper.linear_codes(gpu, codes_TI, scale_T, weight, dtype)
    if chosen == "even" and linear_even.fits(gpu, num_rows, dtype, weight):
        return linear_even.linear_even_codes(gpu, codes_TI, scale_T, weight, dtype)
    if chosen == "tiles" and linear_tiles.fits(gpu, dtype, weight):
        return linear_tiles.linear_tiles_codes(gpu, codes_TI, scale_T, weight, dtype)
    return library_codes(codes_TI, scale_T, weight, dtype)


def library_codes(codes_TI: Tensor, scale_T: Tensor, weight: Fp8 | Int8, dtype: torch.dtype) -> Tensor:
    """Return the product by cuBLASLt, so many rows at a time; e4m3 is rounded to bf16 first.

    bf16 is the only output that products of e4m3 have for scales of rows. Their sums stay in the tensor
    cores: moving them to fp32 on the way costs a quarter of the speed and more, and what is lost is below
    what e4m3 rounds of the inputs.
    """
    scale_T1, columns_IO, num_rows = scale_T[:, None], weight.weight_OI.t(), len(codes_TI)
    if isinstance(weight, Int8):
        y_TO = torch.empty(num_rows, columns_IO.shape[1], dtype=dtype, device=codes_TI.device)
        for first in range(0, num_rows, _SUM_ROWS):
            part = slice(first, first + _SUM_ROWS)
            y_TO[part] = _scaled_sums(codes_TI[part], scale_T1[part], weight)
        return y_TO
    y_TO = torch.empty(num_rows, columns_IO.shape[1], dtype=torch.bfloat16, device=codes_TI.device)
    for first in range(0, num_rows, _LIBRARY_ROWS):
        part = slice(first, first + _LIBRARY_ROWS)
        torch._scaled_mm(
            codes_TI[part],
            columns_IO,
            scale_a=scale_T1[part],
            scale_b=weight.scale_O[None],
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
            out=y_TO[part],
        )
    return (y_TO if weight.bias_O is None else y_TO + weight.bias_O).to(dtype)


def multiplies_codes(gpu: Gpu, dtype: torch.dtype, weight: Fp8 | Int8, num_rows: int) -> bool:
    """Return whether so many rows of this dtype are rounded to codes and multiplied as such."""
    outputs, inputs = weight.weight_OI.shape
    oldest = (8, 9) if isinstance(weight, Fp8) else (8, 0)  # that multiply such codes
    awkward = num_rows == 0 or inputs % 16 or outputs % 16
    return not awkward and dtype in linear_hopper.FLOATS and gpu.capability >= oldest


def fp7_read(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False
) -> Fp7 | None:
    """Return the copy of a weight in 7 bits where this product reads it."""
    if not isinstance(weight, Fp8) or weight.fp7 is None:
        return None
    outputs, sms = weight.weight_OI.shape[0], gpu.num_sms
    if not reads_fp7(num_rows=num_rows, outputs=outputs, num_sms=sms, gated=gated):
        return None
    return weight.fp7 if linear_fp7.fits(gpu, num_rows, dtype, weight.fp7, gated=gated) else None


def _scaled_sums(codes_TI: Tensor, scale_T1: Tensor, weight: Int8) -> Tensor:
    """Return the product of int8 codes in fp32; the library takes 17 rows and more."""
    num_rows = len(codes_TI)
    padded_TI = codes_TI if num_rows > 16 else F.pad(codes_TI, (0, 0, 0, 17 - num_rows))
    sums_TO = torch._int_mm(padded_TI, weight.weight_OI.t())[:num_rows] * scale_T1
    sums_TO *= weight.scale_O
    return sums_TO if weight.bias_O is None else sums_TO.add_(weight.bias_O)
