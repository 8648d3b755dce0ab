"""Launches `kernels/norm.cu`."""

import math

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name

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
    kernel = planned(
        gpu, "rms_norm", (x, weight_H), lambda: _kernel(gpu, "rms_norm", "PPPf", x, weight=weight_H)
    )
    out = torch.empty_like(x)
    if x.shape[0]:
        kernel(gpu.stream(), (x.shape[0], 1), x.data_ptr(), weight_H.data_ptr(), out.data_ptr(), eps)
    return out.view(x_TH.shape)


def add_rms_norm(
    gpu: Gpu, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return (rms_norm(x + residual) * weight, x + residual)."""
    x, residual = rows(x_TH), rows(residual_TH)
    kernel = planned(
        gpu,
        "add_rms_norm",
        (x, residual, weight_H),
        lambda: _kernel(gpu, "add_rms_norm", "PPPPPf", x, residual=residual, weight=weight_H),
    )
    out, total = torch.empty_like(x), torch.empty_like(x)
    if x.shape[0]:
        pointers = (x.data_ptr(), residual.data_ptr(), weight_H.data_ptr(), out.data_ptr(), total.data_ptr())
        kernel(gpu.stream(), (x.shape[0], 1), *pointers, eps)
    return out.view(x_TH.shape), total.view(x_TH.shape)


def layer_norm(gpu: Gpu, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
    """Return layer_norm(x) * weight + bias in the shape of x."""
    x = rows(x_TH)
    kernel = planned(
        gpu,
        "layer_norm",
        (x, weight_H, bias_H),
        lambda: _kernel(gpu, "layer_norm", "PPPPf", x, weight=weight_H, bias=bias_H),
    )
    out = torch.empty_like(x)
    if x.shape[0]:
        pointers = (x.data_ptr(), weight_H.data_ptr(), bias_H.data_ptr(), out.data_ptr())
        kernel(gpu.stream(), (x.shape[0], 1), *pointers, eps)
    return out.view(x_TH.shape)


def layer_norm_cells(
    gpu: Gpu, x_ILH: Tensor, weight_W: Tensor, bias_W: Tensor, eps: float, *, factor: int, by_columns: bool
) -> Tensor:
    """Return the layer norm of each cell of factor x factor neighbours in square maps, [I, cells, W].

    Legend: I maps, L rows of a map, H their width, W that of a cell.
    """
    num, length, hidden = x_ILH.shape
    maps = x_ILH if x_ILH.stride()[1:] == (hidden, 1) else x_ILH.contiguous()
    cells = math.isqrt(length) // factor
    kernel = planned(
        gpu,
        "layer_norm_cells",
        (maps, weight_W, bias_W),
        lambda: _cells_kernel(gpu, maps, weight_W, bias_W, factor),
        factor,
    )
    out = torch.empty(num, cells * cells, factor**2 * hidden, dtype=maps.dtype, device=maps.device)
    if out.numel():
        pointers = (maps.data_ptr(), weight_W.data_ptr(), bias_W.data_ptr(), out.data_ptr())
        kernel(
            gpu.stream(),
            (num * cells * cells, 1),
            *pointers,
            factor,
            cells,
            int(by_columns),
            maps.stride(0),
            eps,
        )
    return out


def _cells_kernel(gpu: Gpu, maps: Tensor, weight_W: Tensor, bias_W: Tensor, factor: int) -> Kernel:
    """Return the kernel for checked operands."""
    num, length, hidden = maps.shape
    wide, side = factor**2 * hidden, math.isqrt(length)
    check(
        gpu,
        "layer_norm_cells",
        x=(maps, maps.dtype, (num, side * side, hidden)),
        weight=(weight_W, maps.dtype, (wide,)),
        bias=(bias_W, maps.dtype, (wide,)),
    )
    if side % factor or hidden * maps.element_size() % 16:
        raise KernelError(
            f"`layer_norm_cells`: maps of {side} x {side} rows of {hidden} elements have no cells of "
            f"{factor} x {factor} whose rows are multiples of 16 bytes"
        )
    threads = num_threads(wide, maps.element_size())
    constants = (("SCALAR", scalar_name("layer_norm_cells", maps)), ("HIDDEN", wide), ("THREADS", threads))
    return gpu.kernel("norm.cu", "layer_norm_cells", constants, "PPPPiiiqf", threads=threads)


def _kernel(gpu: Gpu, op: str, arguments: str, x: Tensor, **others: Tensor) -> Kernel:
    """Return the kernel for checked operands; others than a residual are one row."""
    shape = tuple(x.shape)
    others_checked = {
        name: (other, x.dtype, shape if name == "residual" else shape[1:]) for name, other in others.items()
    }
    check(gpu, op, x=(x, x.dtype, shape), **others_checked)
    threads = num_threads(x.shape[1], x.element_size())
    constants = (("SCALAR", scalar_name(op, x)), ("HIDDEN", x.shape[1]), ("THREADS", threads))
    return gpu.kernel("norm.cu", op, constants, arguments, threads=threads)
