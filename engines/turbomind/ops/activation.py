"""Launches `kernels/activation.cu`."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from engines.errors import KernelError
from engines.ops import RepeatedRows
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name

_THREADS = 256


def gated(gpu: Gpu, gate_up_T2F: Tensor) -> Tensor:
    """Return silu(first half) * second half, [T, F]; halves that no load of 16 bytes takes are torch's.

    Those of Qwen2.5-VL-7B's tower are: 3,420 numbers.
    """
    if gate_up_T2F.shape[-1] * gate_up_T2F.itemsize % 32:
        gate_TF, up_TF = gate_up_T2F.chunk(2, dim=-1)
        return silu(gate_TF) * up_TF
    return silu_mul(gpu, gate_up_T2F)


def silu_mul(gpu: Gpu, gate_up_T2F: Tensor) -> Tensor:
    """Return silu(first half) * second half, [T, F]."""
    x = rows(gate_up_T2F)
    kernel, grid, ffn = planned(gpu, "silu_mul", (x,), lambda: _silu_mul(gpu, x))
    out = torch.empty(x.shape[0], ffn, dtype=x.dtype, device=x.device)
    if grid[0]:
        kernel(gpu.stream(), grid, x.data_ptr(), out.data_ptr())
    return out.view(*gate_up_T2F.shape[:-1], ffn)


def _silu_mul(gpu: Gpu, x: Tensor) -> tuple[Kernel, tuple[int, int], int]:
    """Return the kernel for a checked operand, its grid and the width of its result."""
    check(gpu, "silu_mul", gate_up=(x, x.dtype, tuple(x.shape)))
    ffn = x.shape[1] // 2
    lanes = 16 // x.element_size()
    if x.shape[1] % (2 * lanes):
        raise KernelError(f"`silu_mul` over 2 x {ffn} elements: a half must be a multiple of {lanes}")
    constants = (("SCALAR", scalar_name("silu_mul", x)), ("FFN", ffn))
    kernel = gpu.kernel("activation.cu", "silu_mul", constants, "PP", threads=_THREADS)
    return kernel, (x.shape[0], -(-ffn // (lanes * _THREADS))), ffn


def gelu(gpu: Gpu, x_TF: Tensor) -> Tensor:
    """Return the exact GELU in the shape of x."""
    x = x_TF.contiguous()
    check(gpu, "gelu", x=(x, x.dtype, tuple(x.shape)))
    lanes, num = 16 // x.element_size(), x.numel()
    if num % lanes:
        raise KernelError(f"`gelu` over {num} elements: their number must be a multiple of {lanes}")
    out = torch.empty_like(x)
    if num:
        constants = (("SCALAR", scalar_name("gelu", x)), ("FFN", 0))
        kernel = gpu.kernel("activation.cu", "gelu", constants, "PPq", threads=_THREADS)
        kernel(gpu.stream(), (-(-num // (lanes * _THREADS)), 1), x.data_ptr(), out.data_ptr(), num)
    return out


def added(gpu: Gpu, residual_TO: Tensor | RepeatedRows, y_TO: Tensor, scale_O: Tensor | None) -> Tensor:
    """Return residual + y * scale; what has no scale, or rows that no load of 16 bytes takes, is torch's."""
    if isinstance(residual_TO, RepeatedRows):
        residual_TO = residual_TO.table_RO[: residual_TO.length].expand_as(y_TO)
    if scale_O is None:
        return residual_TO + y_TO
    if residual_TO.shape[-1] * residual_TO.itemsize % 16:
        return torch.addcmul(residual_TO, y_TO, scale_O)
    return scaled_add(gpu, residual_TO, y_TO, scale_O)


def scaled_add(gpu: Gpu, residual_TO: Tensor, y_TO: Tensor, scale_O: Tensor) -> Tensor:
    """Return residual + y * scale, rounded once, in the shape of the residual."""
    residual, y = rows(residual_TO), rows(y_TO)
    kernel, pieces_a_row = planned(
        gpu, "scaled_add", (residual, y, scale_O), lambda: _scaled_add(gpu, residual, y, scale_O)
    )
    out = torch.empty_like(residual)
    pieces = len(residual) * pieces_a_row
    if pieces:
        pointers = (residual.data_ptr(), y.data_ptr(), scale_O.data_ptr(), out.data_ptr())
        kernel(gpu.stream(), (-(-pieces // _THREADS), 1), *pointers, pieces, pieces_a_row)
    return out.view(residual_TO.shape)


def _scaled_add(gpu: Gpu, residual: Tensor, y: Tensor, scale_O: Tensor) -> tuple[Kernel, int]:
    """Return the kernel for checked operands and the pieces of 16 bytes in a row."""
    shape, dtype = tuple(residual.shape), residual.dtype
    check(
        gpu,
        "scaled_add",
        residual=(residual, dtype, shape),
        y=(y, dtype, shape),
        scale=(scale_O, dtype, shape[1:]),
    )
    lanes = 16 // residual.element_size()
    if shape[1] % lanes:
        raise KernelError(
            f"`scaled_add` over rows of {shape[1]} elements: they must be a multiple of {lanes}"
        )
    constants = (("SCALAR", scalar_name("scaled_add", residual)), ("FFN", 0))
    kernel = gpu.kernel("activation.cu", "scaled_add", constants, "PPPPii", threads=_THREADS)
    return kernel, shape[1] // lanes
