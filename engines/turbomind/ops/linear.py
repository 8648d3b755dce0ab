"""Linear layers: each goes to the kernel that is the fastest for it and can take it (`linear_choice.py`)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Bf12, Dense, Dense12, Int4, Weight
from engines.parallel import TpGroup
from engines.pytorch import linear as torch_linear
from engines.quant.linear_tensors import shape_of
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import (
    dequantize_bf12,
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
from engines.turbomind.ops.linear_choice import gates, reads_bf12, way
from engines.turbomind.ops.linear_codes import codes_linear, fp7_read
from engines.turbomind.ops.norm_of_sum import add_rms_norm, add_rms_norm_codes
from engines.turbomind.ops.product_operands import takes_shape

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


def linear(gpu: Gpu, x_TI: Tensor, weight: Weight) -> Tensor:
    """Return x @ W.T + b in the dtype of x, any leading axes."""
    num_rows = x_TI.numel() // max(1, x_TI.shape[-1])
    match weight:
        case Dense():
            return _dense(gpu, x_TI, weight, num_rows)
        case Dense12():
            return _dense12(gpu, x_TI, weight, num_rows)
        case Int4():
            return _int4(gpu, x_TI, weight, num_rows)
        case _:
            return codes_linear(gpu, x_TI, weight, num_rows)


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
    if isinstance(gate_up, Dense | Dense12) and (
        bf12 := _bf12(gpu, num_rows, x_TH.dtype, gate_up, gated=True)
    ):
        normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
        return linear_bf12.linear_bf12(gpu, normed_TH, bf12, gate_up.bias_O, gated=True), sum_TH
    if isinstance(gate_up, Dense12):
        if not _gates_unpacked(gpu, num_rows, x_TH.dtype, gate_up):
            return None
        normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
        dense = _widened(gpu, gate_up)
        return linear_tiles.linear_tiles(gpu, normed_TH, dense, gated=True, new_weight=True), sum_TH
    kind, outputs = linear_hopper.kind_of(gate_up), gate_up.weight_OI.shape[0]
    if fp7 := fp7_read(gpu, num_rows, x_TH.dtype, gate_up, gated=True):
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
    return dequantize_int4.fits(gate_up) and _gates_unpacked(gpu, num_rows, dtype, gate_up)


def _gates_unpacked(gpu: Gpu, num_rows: int, dtype: torch.dtype, gate_up: Int4 | Dense12) -> bool:
    """Return whether the kernel for many rows gates a layer that is unpacked for it."""
    if isinstance(gate_up, Dense12) and dtype != torch.bfloat16:
        return False
    outputs, inputs = shape_of(gate_up)
    if gates("dense", num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms) != "tiles":
        return False
    return takes_shape(gpu, dtype, outputs, inputs * dtype.itemsize, gated=True)


def _dense(gpu: Gpu, x_TI: Tensor, weight: Dense, num_rows: int) -> Tensor:
    if bf12 := _bf12(gpu, num_rows, x_TI.dtype, weight):
        return linear_bf12.linear_bf12(gpu, x_TI, bf12, weight.bias_O)
    if weight.bf12 is not None and linear_skinny_bf12.fits(gpu, num_rows, x_TI.dtype):
        return linear_skinny_bf12.linear_skinny_bf12(gpu, x_TI, weight.bf12, weight.bias_O)
    outputs = weight.weight_OI.shape[0]
    chosen = way("dense", num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms)
    if chosen == "skinny" and linear_skinny.fits(gpu, x_TI, weight):
        return linear_skinny.linear_skinny(gpu, x_TI, weight)
    if chosen == "hopper" and linear_hopper.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_hopper.linear_dense(gpu, x_TI, weight)
    if chosen == "even" and linear_even.fits(gpu, num_rows, x_TI.dtype, weight):
        return linear_even.linear_even(gpu, x_TI, weight)
    return torch_linear.linear(x_TI, weight)


def _dense12(gpu: Gpu, x_TI: Tensor, weight: Dense12, num_rows: int) -> Tensor:
    """Return the product of a layer that has 12 bits alone: many rows multiply it unpacked."""
    if bf12 := _bf12(gpu, num_rows, x_TI.dtype, weight):
        return linear_bf12.linear_bf12(gpu, x_TI, bf12, weight.bias_O)
    if linear_skinny_bf12.fits(gpu, num_rows, x_TI.dtype):
        return linear_skinny_bf12.linear_skinny_bf12(gpu, x_TI, weight.bf12, weight.bias_O)
    if num_rows == 0 or x_TI.dtype != torch.bfloat16:
        return torch_linear.linear(x_TI, weight)
    return F.linear(x_TI, _widened(gpu, weight).weight_OI, weight.bias_O)


def _widened(gpu: Gpu, weight: Dense12) -> Dense:
    return Dense(weight_OI=dequantize_bf12.dequantize_bf12(gpu, weight.bf12), bias_O=weight.bias_O)


def _bf12(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Dense12, *, gated: bool = False
) -> Bf12 | None:
    """Return the 12 bits of a weight where this product reads them."""
    bf12, sms = weight.bf12, gpu.num_sms
    if bf12 is None:
        return None
    outputs, alone = len(bf12.factor_O), isinstance(weight, Dense12)
    if not reads_bf12(num_rows=num_rows, outputs=outputs, num_sms=sms, gated=gated, alone=alone):
        return None
    return bf12 if linear_bf12.fits(gpu, num_rows, dtype, bf12, gated=gated) else None


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
