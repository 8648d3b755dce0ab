"""Linear layers: each goes to the kernel that is the fastest for it and can take it (`linear_choice.py`)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Bf12, Dense, Dense12, Int4, Weight
from engines.pytorch import linear as torch_linear
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import (
    dequantize_bf12,
    dequantize_int4,
    linear_bf12,
    linear_even,
    linear_hopper,
    linear_int4_hopper,
    linear_skinny,
    linear_skinny_bf12,
    linear_skinny_int4,
)
from engines.turbomind.ops.linear_choice import reads_bf12, way
from engines.turbomind.ops.linear_codes import codes_linear


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


def _dense(gpu: Gpu, x_TI: Tensor, weight: Dense, num_rows: int) -> Tensor:
    if bf12 := bf12_read(gpu, num_rows, x_TI.dtype, weight):
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
    if bf12 := bf12_read(gpu, num_rows, x_TI.dtype, weight):
        return linear_bf12.linear_bf12(gpu, x_TI, bf12, weight.bias_O)
    if linear_skinny_bf12.fits(gpu, num_rows, x_TI.dtype):
        return linear_skinny_bf12.linear_skinny_bf12(gpu, x_TI, weight.bf12, weight.bias_O)
    if num_rows == 0 or x_TI.dtype != torch.bfloat16:
        return torch_linear.linear(x_TI, weight)
    return F.linear(x_TI, widened(gpu, weight).weight_OI, weight.bias_O)


def widened(gpu: Gpu, weight: Dense12) -> Dense:
    """Return a layer of 12 bits as a plain one."""
    return Dense(weight_OI=dequantize_bf12.dequantize_bf12(gpu, weight.bf12), bias_O=weight.bias_O)


def bf12_read(
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
    x_TI, dense = unpacked(gpu, x_TI, weight)
    return F.linear(x_TI, dense.weight_OI, dense.bias_O)


def unpacked(gpu: Gpu, x_TI: Tensor, weight: Int4) -> tuple[Tensor, Dense]:
    """Return the layer as a plain one, and x in the order of its columns."""
    x_TI = x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I)
    weight_OI = dequantize_int4.dequantize_int4(gpu, weight, x_TI.dtype)
    return x_TI, Dense(weight_OI=weight_OI, bias_O=weight.bias_O)
