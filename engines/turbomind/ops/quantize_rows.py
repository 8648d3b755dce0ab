"""Launches `kernels/quantize_rows.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name

CODES = {torch.float8_e4m3fn: "e4m3", torch.int8: "int8"}
_LANES = 8  # elements of a piece of 16 bytes
_MOST_THREADS = 1024
_MOST_PIECES = 8  # that a thread keeps in registers
_LEAST_THREADS = 256


def row_threads(hidden: int, *, num_rows: int, num_sms: int) -> int:
    """Return the block size for one row of 16-bit elements.

    A row that has an SM for itself gets the most threads; of many rows an SM holds several, so that some load
    while others compute. Raises KernelError for a row that is no multiple of 16 bytes or longer than a block
    holds.
    """
    pieces = hidden // _LANES
    if hidden <= 0 or hidden % _LANES or pieces > _MOST_THREADS * _MOST_PIECES:
        longest = _MOST_THREADS * _MOST_PIECES * _LANES
        raise KernelError(
            f"codes of {hidden} elements: rows must be a multiple of {_LANES} and at most {longest} long"
        )
    most = max(_LEAST_THREADS, _MOST_THREADS // max(1, -(-num_rows // num_sms)))
    each = min(_MOST_PIECES, -(-pieces // most))
    return -(-pieces // each // 32) * 32


def quantize_rows(gpu: Gpu, x_TI: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (codes [T, I] of `dtype`, e4m3 or int8, fp32 scales [T]) of the rows of x."""
    x = rows(x_TI)
    kernel = _planned(gpu, "quantize_rows", "PPP", (x,), x.shape[1], dtype)
    codes, scale = _codes(x, x.shape[1], dtype)
    if codes.numel():
        kernel(gpu.stream(), (len(x), 1), x.data_ptr(), codes.data_ptr(), scale.data_ptr())
    return codes, scale


def silu_mul_codes(gpu: Gpu, gate_up_T2F: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return `quantize_rows` of silu(first half) * second half, which is not written itself."""
    x = rows(gate_up_T2F)
    hidden = x.shape[1] // 2
    kernel = _planned(gpu, "silu_mul_codes", "PPP", (x,), hidden, dtype)
    codes, scale = _codes(x, hidden, dtype)
    if codes.numel():
        kernel(gpu.stream(), (len(x), 1), x.data_ptr(), codes.data_ptr(), scale.data_ptr())
    return codes, scale


def add_rms_norm_codes(
    gpu: Gpu, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `quantize_rows` of rms_norm(x + residual) * weight, which is not written itself, and the sum."""
    x, residual = rows(x_TH), rows(residual_TH)
    operands = (x, residual, weight_H)
    kernel = _planned(gpu, "add_rms_norm_codes", "PPPPPPf", operands, x.shape[1], dtype)
    codes, scale = _codes(x, x.shape[1], dtype)
    total = torch.empty_like(x)
    if codes.numel():
        inputs = (x.data_ptr(), residual.data_ptr(), weight_H.data_ptr())
        outputs = (total.data_ptr(), codes.data_ptr(), scale.data_ptr())
        kernel(gpu.stream(), (len(x), 1), *inputs, *outputs, eps)
    return codes, scale, total.view(x_TH.shape)


def _codes(x: Tensor, hidden: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    codes = torch.empty(len(x), hidden, dtype=dtype, device=x.device)
    return codes, torch.empty(len(x), dtype=torch.float32, device=x.device)


def _planned(
    gpu: Gpu, entry: str, arguments: str, operands: tuple[Tensor, ...], hidden: int, dtype: torch.dtype
) -> Kernel:
    """Return the kernel for checked operands: x, then one of its shape and one row."""

    def plan() -> Kernel:
        if dtype not in CODES:
            raise KernelError(f"`{entry}` to {dtype}: must be one of {', '.join(sorted(map(str, CODES)))}")
        x, *others = operands
        shape = tuple(x.shape)
        names = zip(("residual", "weight"), others, (shape, shape[1:]), strict=False)
        check(gpu, entry, x=(x, x.dtype, shape), **{name: (y, x.dtype, wanted) for name, y, wanted in names})
        threads = row_threads(hidden, num_rows=len(x), num_sms=gpu.num_sms)
        constants = (
            ("SCALAR", scalar_name(entry, x)),
            ("CODE", CODES[dtype]),
            ("HIDDEN", hidden),
            ("THREADS", threads),
        )
        return gpu.kernel("quantize_rows.cu", entry, constants, arguments, threads=threads)

    return planned(gpu, entry, operands, plan, hidden, dtype)
