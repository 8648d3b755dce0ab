"""Launches `kernels/layer_norm.cu` for rows that fit into a warp, `layer_norm` of `norm.cu` for others."""

import torch
from torch import Tensor

from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops import norm

_MOST_BYTES = 8 * 32 * 16  # of a row: 8 pieces a lane
_ROWS_A_BLOCK = 8
_BLOCKS_AN_SM = 3  # that stay


def layer_norm(gpu: Gpu, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
    """Return layer_norm(x) * weight + bias in the shape of x."""
    row_bytes = x_TH.shape[-1] * x_TH.element_size()
    if row_bytes > _MOST_BYTES or row_bytes % 16:
        return norm.layer_norm(gpu, x_TH, weight_H, bias_H, eps)
    x = rows(x_TH)
    kernel = planned(
        gpu, "layer_norm_narrow", (x, weight_H, bias_H), lambda: _kernel(gpu, x, weight_H, bias_H)
    )
    out = torch.empty_like(x)
    if len(x):
        blocks = min(-(-len(x) // _ROWS_A_BLOCK), _BLOCKS_AN_SM * gpu.num_sms)
        pointers = (x.data_ptr(), weight_H.data_ptr(), bias_H.data_ptr(), out.data_ptr())
        kernel(gpu.stream(), (blocks, 1), *pointers, len(x), eps)
    return out.view(x_TH.shape)


def _kernel(gpu: Gpu, x: Tensor, weight_H: Tensor, bias_H: Tensor) -> Kernel:
    hidden = tuple(x.shape[1:])
    check(
        gpu,
        "layer_norm",
        x=(x, x.dtype, tuple(x.shape)),
        weight=(weight_H, x.dtype, hidden),
        bias=(bias_H, x.dtype, hidden),
    )
    constants = (("SCALAR", scalar_name("layer_norm", x)), ("HIDDEN", x.shape[1]))
    return gpu.kernel("layer_norm.cu", "layer_norm_narrow", constants, "PPPPif", threads=32 * _ROWS_A_BLOCK)
