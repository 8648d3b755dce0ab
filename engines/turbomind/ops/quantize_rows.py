"""Launches `kernels/quantize_rows.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, rows, scalar_name
from engines.turbomind.ops.norm import num_threads

_CODES = {torch.float8_e4m3fn: "e4m3", torch.int8: "int8"}


def quantize_rows(gpu: Gpu, x_TI: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (codes [T, I] of `dtype`, e4m3 or int8, fp32 scales [T]) of the rows of x."""
    x = rows(x_TI)
    return _launch(gpu, "quantize_rows", x, x.shape[1], dtype)


def silu_mul_codes(gpu: Gpu, gate_up_T2F: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return `quantize_rows` of silu(first half) * second half, which is not written itself."""
    x = rows(gate_up_T2F)
    return _launch(gpu, "silu_mul_codes", x, x.shape[1] // 2, dtype)


def _launch(gpu: Gpu, entry: str, x: Tensor, hidden: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if dtype not in _CODES:
        raise KernelError(f"`{entry}` to {dtype}: must be one of {', '.join(sorted(map(str, _CODES)))}")
    check(gpu, entry, x=(x, x.dtype, tuple(x.shape)))
    num_rows, threads = x.shape[0], num_threads(hidden, x.element_size())
    codes = torch.empty(num_rows, hidden, dtype=dtype, device=x.device)
    scale = torch.empty(num_rows, dtype=torch.float32, device=x.device)
    if x.numel():
        constants = (
            ("SCALAR", scalar_name(entry, x)),
            ("CODE", _CODES[dtype]),
            ("HIDDEN", hidden),
            ("THREADS", threads),
        )
        kernel = gpu.kernel("quantize_rows.cu", entry, constants, "PPP", threads=threads)
        kernel(gpu.stream(), (num_rows, 1), x.data_ptr(), codes.data_ptr(), scale.data_ptr())
    return codes, scale
