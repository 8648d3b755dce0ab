"""Linear layers whose gates are applied by the kernel that multiplies: silu(first half) * second half.

Legend: T rows, H their width, F outputs of a half.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engines.ops import Dense, Dense12, Fp8, Int4, Int8, Weight
from engines.parallel import TpGroup
from engines.quant.linear_tensors import shape_of
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import (
    dequantize_int4,
    linear_bf12,
    linear_even,
    linear_fp7,
    linear_hopper,
    linear_int4_hopper,
    linear_tiles,
)
from engines.turbomind.ops.linear import bf12_read, unpacked, widened
from engines.turbomind.ops.linear_choice import Way, gates
from engines.turbomind.ops.linear_codes import fp7_read
from engines.turbomind.ops.norm_of_sum import add_rms_norm, add_rms_norm_codes
from engines.turbomind.ops.product_operands import takes_shape

# Fewer are `linear_skinny_int4`'s, which applies none: it takes less time by itself up to 8 rows, and with an
# op for the gates behind it more from 5 on, kernels/LOG.md.
_INT4_ROWS = range(5, linear_int4_hopper.MOST_ROWS + 1)

_DENSE: dict[Way, Callable[..., Tensor]] = {
    "hopper": linear_hopper.linear_dense,
    "even": linear_even.linear_even,
    "tiles": linear_tiles.linear_tiles,
}
_CODES: dict[Way, Callable[..., Tensor]] = {
    "hopper": linear_hopper.linear_codes,
    "even": linear_even.linear_even_codes,
    "tiles": linear_tiles.linear_tiles_codes,
}


def add_rms_norm_gated(
    gpu: Gpu,
    x_TH: Tensor,
    residual_TH: Tensor,
    norm_H: Tensor,
    eps: float,
    gate_up: Weight,
    group: TpGroup | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Return (silu_mul(linear(rms_norm(x + residual) * norm)) [T, F], x + residual), or None: it is two ops.

    With a group x is this rank's addend, as in `engines/ops.py`; None leaves it as it was.
    """
    if isinstance(gate_up, Fp8 | Int8):
        product_of_codes = _of_codes(gpu, len(x_TH), x_TH.dtype, gate_up)
        if product_of_codes is None:
            return None
        dtype = gate_up.weight_OI.dtype
        codes_TH, scale_T, sum_TH = add_rms_norm_codes(gpu, x_TH, residual_TH, norm_H, eps, dtype, group)
        return product_of_codes(codes_TH, scale_T), sum_TH
    product = _of_rows(gpu, len(x_TH), x_TH.dtype, gate_up)
    if product is None:
        return None
    normed_TH, sum_TH = add_rms_norm(gpu, x_TH, residual_TH, norm_H, eps, group)
    return product(normed_TH), sum_TH


def _of_codes(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Fp8 | Int8
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the gated product of codes [T, H] and their scales [T]; None: two ops take less time."""
    if fp7 := fp7_read(gpu, num_rows, dtype, weight, gated=True):
        return partial(linear_fp7.linear_fp7, gpu, weight=fp7, bias_O=weight.bias_O, gated=True)
    chosen = _way(gpu, num_rows, dtype, weight)
    return None if chosen is None else partial(_CODES[chosen], gpu, weight=weight, dtype=dtype, gated=True)


def _of_rows(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Dense12 | Int4
) -> Callable[[Tensor], Tensor] | None:
    """Return the gated product of rows [T, H], None likewise."""
    if isinstance(weight, Int4):
        if num_rows in _INT4_ROWS:
            if not linear_int4_hopper.fits(gpu, num_rows, dtype, weight, gated=True):
                return None
            return partial(linear_int4_hopper.linear_int4_hopper, gpu, weight=weight, gated=True)
        fits = dequantize_int4.fits(weight) and _gates_unpacked(gpu, num_rows, dtype, weight)
        return partial(_unpacked, gpu, weight=weight) if fits else None
    if bf12 := bf12_read(gpu, num_rows, dtype, weight, gated=True):
        return partial(linear_bf12.linear_bf12, gpu, weight=bf12, bias_O=weight.bias_O, gated=True)
    if isinstance(weight, Dense12):
        fits = dtype == torch.bfloat16 and _gates_unpacked(gpu, num_rows, dtype, weight)
        return partial(_unpacked, gpu, weight=weight) if fits else None
    chosen = _way(gpu, num_rows, dtype, weight)
    return None if chosen is None else partial(_DENSE[chosen], gpu, weight=weight, gated=True)


def _way(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Fp8 | Int8) -> Way | None:
    """Return the kernel that gates a product in less time than an op of its own would, if it can take it."""
    kind, outputs = linear_hopper.kind_of(weight), weight.weight_OI.shape[0]
    chosen = gates(kind, num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms)
    if chosen is None or outputs % 16:
        return None
    if chosen == "tiles":
        return chosen if linear_tiles.fits(gpu, dtype, weight, gated=True) else None
    return chosen if linear_hopper.fits(gpu, num_rows, dtype, weight) else None


def _gates_unpacked(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Int4 | Dense12) -> bool:
    """Return whether the kernel for many rows gates a layer that is unpacked for it."""
    outputs, inputs = shape_of(weight)
    if gates("dense", num_rows=num_rows, outputs=outputs, num_sms=gpu.num_sms) != "tiles":
        return False
    return takes_shape(gpu, dtype, outputs, inputs * dtype.itemsize, gated=True)


def _unpacked(gpu: Gpu, x_TH: Tensor, weight: Int4 | Dense12) -> Tensor:
    """Return the gated product with a weight that is unpacked first."""
    x_TH, dense = unpacked(gpu, x_TH, weight) if isinstance(weight, Int4) else (x_TH, widened(gpu, weight))
    return linear_tiles.linear_tiles(gpu, x_TH, dense, gated=True, new_weight=True)
