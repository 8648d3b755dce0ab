"""Launches `kernels/norm.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check, rows, scalar_name

_MAX_THREADS = 1024
_MAX_PIECES = 8  # 16-byte pieces a thread keeps in registers


def num_threads(hidden: int, item_bytes: int) -> int:
    """Return the block size for one row: a 16-byte piece a thread where 1,024 threads suffice.

    Raises KernelError for a row that is no multiple of 16 bytes or longer than a block holds.
    """
    lanes = 16 // item_bytes
    pieces = hidden // lanes
    if hidden <= 0 or hidden % lanes or pieces > _MAX_THREADS * _MAX_PIECES:
        longest = _MAX_THREADS * _MAX_PIECES * lanes
        raise KernelError(
            f"norm over {hidden} elements: rows must be a multiple of {lanes} and at most {longest} long"
        )
    return min(_MAX_THREADS, -(-pieces // 32) * 32)


def rms_norm(gpu: Gpu, x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    """Return rms_norm(x) * weight in the shape of x."""
    x = rows(x_TH)
    check(gpu, "rms_norm", x=(x, x.dtype, tuple(x.shape)), weight=(weight_H, x.dtype, x.shape[1:]))
    out = torch.empty_like(x)
    if x.numel():
        constants, threads = _constants("rms_norm", x)
        kernel = gpu.kernel("norm.cu", "rms_norm", constants, "PPPf", threads=threads)
        kernel(gpu.stream(), (x.shape[0], 1), x.data_ptr(), weight_H.data_ptr(), out.data_ptr(), eps)
    return out.view(x_TH.shape)


def add_rms_norm(
    gpu: Gpu, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return (rms_norm(x + residual) * weight, x + residual)."""
    x, residual = rows(x_TH), rows(residual_TH)
    check(
        gpu,
        "add_rms_norm",
        x=(x, x.dtype, tuple(x.shape)),
        residual=(residual, x.dtype, tuple(x.shape)),
        weight=(weight_H, x.dtype, x.shape[1:]),
    )
    out, total = torch.empty_like(x), torch.empty_like(x)
    if x.numel():
        constants, threads = _constants("add_rms_norm", x)
        kernel = gpu.kernel("norm.cu", "add_rms_norm", constants, "PPPPPf", threads=threads)
        pointers = (x.data_ptr(), residual.data_ptr(), weight_H.data_ptr(), out.data_ptr(), total.data_ptr())
        kernel(gpu.stream(), (x.shape[0], 1), *pointers, eps)
    return out.view(x_TH.shape), total.view(x_TH.shape)


def layer_norm(gpu: Gpu, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
    """Return layer_norm(x) * weight + bias in the shape of x."""
    x = rows(x_TH)
    check(
        gpu,
        "layer_norm",
        x=(x, x.dtype, tuple(x.shape)),
        weight=(weight_H, x.dtype, x.shape[1:]),
        bias=(bias_H, x.dtype, x.shape[1:]),
    )
    out = torch.empty_like(x)
    if x.numel():
        constants, threads = _constants("layer_norm", x)
        kernel = gpu.kernel("norm.cu", "layer_norm", constants, "PPPPf", threads=threads)
        pointers = (x.data_ptr(), weight_H.data_ptr(), bias_H.data_ptr(), out.data_ptr())
        kernel(gpu.stream(), (x.shape[0], 1), *pointers, eps)
    return out.view(x_TH.shape)


def _constants(op: str, x: Tensor) -> tuple[Constants, int]:
    hidden = x.shape[1]
    threads = num_threads(hidden, x.element_size())
    return (("SCALAR", scalar_name(op, x)), ("HIDDEN", hidden), ("THREADS", threads)), threads
