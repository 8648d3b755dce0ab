"""Linear layers: each goes to the kernel that is the fastest for it and can take it (`linear_choice.py`)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Bf12, Dense, Fp7, Fp8, Int4, Int8, Weight
from engines.parallel import TpGroup
from engines.pytorch import linear as torch_linear
from engines.quant.linear_tensors import shape_of
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import (
    dequantize_int4,
    linear_bf12,
    linear_even,
    linear_fp7,
    linear_hopper,
    linear_int4_hopper,
    linear_skinny,
    linear_skinny_bf12,
    linear_skinny_int4,
    linear_tiles,
)
from engines.turbomind.ops.linear_choice import Way, gates, reads_bf12, reads_fp7, way
from engines.turbomind.ops.norm_of_sum import add_rms_norm, add_rms_norm_codes
from engines.turbomind.ops.product_operands import takes_shape
from engines.turbomind.ops.quantize_rows import quantize_rows, silu_mul_codes

# What the kernels that gate are called with: rows, or codes of rows and their scales.
_GATED: dict[str, Callable[..., Tensor]] = {
    "hopper": linear_hopper.linear_dense,
    "even": linear_even.linear_even,
    "tiles": linear_tiles.linear_tiles,
}
_GATED_CODES: dict[str, Callable[..., Tensor]] = {
    "hopper": linear_hopper.linear_codes,
    "even": linear_even.linear_even_codes,
    "tiles": linear_tiles.linear_tiles_codes,
}
# Fewer are `linear_skinny_int4`'s, which applies none: it takes less time by itself up to 8 rows, and with an
# op for the gates behind it more from 5 on, kernels/LOG.md.
_GATED_INT4_ROWS = range(5, linear_int4_hopper.MOST_ROWS + 1)
# Rows that cuBLASLt multiplies in e4m3 at once: calls of 8,192 rows were up to 22 % slower on one of two
# H200, calls of 2,048 up to 7 % on the other, kernels/LOG.md.
_LIBRARY_ROWS = 4096
# Rows of int8 whose int32 and fp32 sums wait in memory at once: with 28,672 outputs 0.23 GB in place of 1.9.
_SUM_ROWS = 1024


def linear(gpu: Gpu, x_TI: Tensor, weight: Weight) -> Tensor:
    """Return x @ W.T + b in the dtype of x, any leading axes."""
    num_rows = x_TI.numel() // max(1, x_TI.shape[-1])
    match weight:
        case Dense():
            return _dense(gpu, x_TI, weight, num_rows)
        case Int4():
            return _int4(gpu, x_TI, weight, num_rows)
        case _:
            return _codes(gpu, x_TI, weight, num_rows)


def silu_mul_linear(gpu: Gpu, gate_up_T2F: Tensor, weight: Weight) -> Tensor | None:
    """Return linear(silu(first half) * second half) for weights of 8 bits, or None where it is two ops."""
    if not isinstance(weight, Fp8 | Int8) or gate_up_T2F.dim() != 2:
        return None
    if not _multiplies_codes(gpu, gate_up_T2F.dtype, weight, len(gate_up_T2F)):
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
    if not _multiplies_codes(gpu, x_TH.dtype, weight, len(x_TH)):
        return None
    dtype = weight.weight_OI.dtype
    codes_TH, scale_T, sum_TH = add_rms_norm_codes(gpu, x_TH, residual_TH, norm_H, eps, dtype, group)
    return product_of_codes(gpu, codes_TH, scale_T, weight, x_TH.dtype), sum_TH


def add_rms_norm_gated(
    gpu: Gpu,
    x_TH: Tensor,
    residual_TH: Tensor,
    norm_H: Tensor,
    eps: float,
    gate_up: Weight,
    group: TpGroup | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Return (silu_mul(linear(rms_norm(x + residual) * norm)), x + residual), or None where it is two ops.

    With a group x is this rank's addend, as in `engines/ops.py`; None leaves it as it was.
    """
    num_rows = len(x_TH)
    if isinstance(gate_up, Int4):
        if not _gates_int4(gpu, num_rows, x_TH.dtype, gate_up):
            return None
        normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
        if num_rows in _GATED_INT4_ROWS:
            return linear_int4_hopper.linear_int4_hopper(gpu, normed_TH, gate_up, gated=True), sum_TH
        x_TI, dense = _unpacked(gpu, normed_TH, gate_up)
        return linear_tiles.linear_tiles(gpu, x_TI, dense, gated=True, new_weight=True), sum_TH
    kind, outputs = linear_hopper.kind_of(gate_up), gate_up.weight_OI.shape[0]
    if isinstance(gate_up, Dense) and (bf12 := _bf12(gpu, num_rows, x_TH.dtype, gate_up, gated=True)):
        normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
        return linear_bf12.linear_bf12(gpu, normed_TH, bf12, gate_up.bias_O, gated=True), sum_TH
    if fp7 := _fp7(gpu, num_rows, x_TH.dtype, gate_up, gated=True):
        codes_TH, scale_T, sum_TH = add_rms_norm_codes(
            gpu, x_TH, residual_TH, norm_H, eps, torch.float8_e4m3fn, group
        )
        return linear_fp7.linear_fp7(gpu, codes_TH, scale_T, fp7, gate_up.bias_O, gated=True), sum_TH
    chosen = gates(kind, num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms)
    if chosen is None or outputs % 16:
        return None
    tiles = chosen == "tiles"
    if tiles and not linear_tiles.fits(gpu, x_TH.dtype, gate_up, gated=True):
        return None
    if not tiles and not linear_hopper.fits(gpu, num_rows, x_TH.dtype, gate_up):
        return None
    if isinstance(gate_up, Dense):
        normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
        return _GATED[chosen](gpu, normed_TH, gate_up, gated=True), sum_TH
    dtype = gate_up.weight_OI.dtype
    codes_TH, scale_T, sum_TH = add_rms_norm_codes(gpu, x_TH, residual_TH, norm_H, eps, dtype, group)
    return _GATED_CODES[chosen](gpu, codes_TH, scale_T, gate_up, x_TH.dtype, gated=True), sum_TH


def _gates_int4(gpu: Gpu, num_rows: int, dtype: torch.dtype, gate_up: Int4) -> bool:
    """Return whether a kernel gates 4-bit layers; of many rows the one that takes the unpacked weight."""
    if num_rows in _GATED_INT4_ROWS:
        return linear_int4_hopper.fits(gpu, num_rows, dtype, gate_up, gated=True)
    outputs, inputs = shape_of(gate_up)
    if gates("dense", num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms) != "tiles":
        return False
    line_bytes = inputs * dtype.itemsize
    return dequantize_int4.fits(gate_up) and takes_shape(gpu, dtype, outputs, line_bytes, gated=True)


def _way(gpu: Gpu, weight: Dense | Fp8 | Int8, num_rows: int) -> Way:
    outputs = weight.weight_OI.shape[0]
    return way(linear_hopper.kind_of(weight), num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms)


def _dense(gpu: Gpu, x_TI: Tensor, weight: Dense, num_rows: int) -> Tensor:
    if bf12 := _bf12(gpu, num_rows, x_TI.dtype, weight):
        return linear_bf12.linear_bf12(gpu, x_TI, bf12, weight.bias_O)
    if weight.bf12 is not None and linear_skinny_bf12.fits(gpu, num_rows, x_TI.dtype):
        return linear_skinny_bf12.linear_skinny_bf12(gpu, x_TI, weight.bf12, weight.bias_O)
    chosen = _way(gpu, weight, num_rows)
    if chosen == "skinny" and linear_skinny.fits(gpu, x_TI, weight):
        return linear_skinny.linear_skinny(gpu, x_TI, weight)
    if chosen == "hopper" and linear_hopper.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_hopper.linear_dense(gpu, x_TI, weight)
    if chosen == "even" and linear_even.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_even.linear_even(gpu, x_TI, weight)
    return torch_linear.linear(x_TI, weight)


def _bf12(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense, *, gated: bool = False) -> Bf12 | None:
    """Return the copy of a weight in 12 bits where this product reads it."""
    bf12, outputs = weight.bf12, weight.weight_OI.shape[0]
    sms = gpu.num_sms
    if bf12 is None or not reads_bf12(num_rows=num_rows, outputs=outputs, num_sms=sms, gated=gated):
        return None
    return bf12 if linear_bf12.fits(gpu, num_rows, dtype, bf12, gated=gated) else None


def _fp7(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False
) -> Fp7 | None:
    """Return the copy of a weight in 7 bits where this product reads it."""
    if not isinstance(weight, Fp8) or weight.fp7 is None:
        return None
    outputs, sms = weight.weight_OI.shape[0], gpu.num_sms
    if not reads_fp7(num_rows=num_rows, outputs=outputs, num_sms=sms, gated=gated):
        return None
    return weight.fp7 if linear_fp7.fits(gpu, num_rows, dtype, weight.fp7, gated=gated) else None


def _int4(gpu: Gpu, x_TI: Tensor, weight: Int4, num_rows: int) -> Tensor:
    if linear_skinny_int4.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_skinny_int4.linear_skinny_int4(gpu, x_TI, weight)
    if linear_int4_hopper.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_int4_hopper.linear_int4_hopper(gpu, x_TI, weight)
    if num_rows == 0 or x_TI.dtype not in linear_hopper.FLOATS or not dequantize_int4.fits(weight):
        return torch_linear.linear(x_TI, weight)
    x_TI, dense = _unpacked(gpu, x_TI, weight)
    return F.linear(x_TI, dense.weight_OI, dense.bias_O)


def _unpacked(gpu: Gpu, x_TI: Tensor, weight: Int4) -> tuple[Tensor, Dense]:
    """Return the layer as a plain one, and x in the order of its columns."""
    x_TI = x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I)
    weight_OI = dequantize_int4.dequantize_int4(gpu, weight, x_TI.dtype)
    return x_TI, Dense(weight_OI=weight_OI, bias_O=weight.bias_O)


def _codes(gpu: Gpu, x_TI: Tensor, weight: Fp8 | Int8, num_rows: int) -> Tensor:
    if not _multiplies_codes(gpu, x_TI.dtype, weight, num_rows):
        return torch_linear.linear(x_TI, weight)
    codes_TI, scale_T = quantize_rows(gpu, x_TI, weight.weight_OI.dtype)
    return product_of_codes(gpu, codes_TI, scale_T, weight, x_TI.dtype).view(*x_TI.shape[:-1], -1)


def _multiplies_codes(gpu: Gpu, dtype: torch.dtype, weight: Fp8 | Int8, num_rows: int) -> bool:
    outputs, inputs = weight.weight_OI.shape
    oldest = (8, 9) if isinstance(weight, Fp8) else (8, 0)  # that multiply such codes
    awkward = num_rows == 0 or inputs % 16 or outputs % 16
    return not awkward and dtype in linear_hopper.FLOATS and gpu.capability >= oldest


def product_of_codes(
    gpu: Gpu, codes_TI: Tensor, scale_T: Tensor, weight: Fp8 | Int8, dtype: torch.dtype
) -> Tensor:
    """Return (codes @ W.T) * row scale * output scale + b as `dtype`; codes are of the weight's type."""
    num_rows = len(codes_TI)
    if fp7 := _fp7(gpu, num_rows, dtype, weight):
        return linear_fp7.linear_fp7(gpu, codes_TI, scale_T, fp7, weight.bias_O)
    chosen = _way(gpu, weight, num_rows)
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


def _scaled_sums(codes_TI: Tensor, scale_T1: Tensor, weight: Int8) -> Tensor:
    """Return the product of int8 codes in fp32; the library takes 17 rows and more."""
    num_rows = len(codes_TI)
    padded_TI = codes_TI if num_rows > 16 else F.pad(codes_TI, (0, 0, 0, 17 - num_rows))
    sums_TO = torch._int_mm(padded_TI, weight.weight_OI.t())[:num_rows] * scale_T1
    sums_TO *= weight.scale_O
    return sums_TO if weight.bias_O is None else sums_TO.add_(weight.bias_O)
