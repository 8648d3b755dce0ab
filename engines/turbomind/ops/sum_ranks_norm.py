"""Launches `kernels/sum_ranks_norm.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops.norm import num_threads
from engines.turbomind.ops.quantize_rows import CODES, row_threads
from engines.turbomind.ops.sum_ranks import Boxes
from engines.turbomind.rank_boxes import MOST_ROW_BYTES, SLOT_BYTES, most_rows


def takes_rows(x_TH: Tensor, size: int) -> bool:
    """Whether `sum_add_rms_norm` takes these rows."""
    row_bytes = x_TH.shape[-1] * x_TH.element_size()
    num_rows = x_TH.numel() // max(1, x_TH.shape[-1])
    return 0 < num_rows <= most_rows(size) and row_bytes <= MOST_ROW_BYTES and row_bytes % 16 == 0


def sum_add_rms_norm(
    gpu: Gpu, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, boxes: Boxes
) -> tuple[Tensor, Tensor]:
    """Return (rms_norm(s + residual) * weight, s + residual), s the sum of x over ranks.

    Every rank of the group must call it alike. Raises KernelError for rows that `takes_rows` does not name.
    """
    x, residual = rows(x_TH), rows(residual_TH)
    out, total = torch.empty_like(x), torch.empty_like(x)
    _launch(gpu, x, residual, weight_H, eps, boxes, out=out, scale_T=None, total=total)
    return out.view(x_TH.shape), total.view(x_TH.shape)


def sum_add_rms_norm_codes(
    gpu: Gpu,
    x_TH: Tensor,
    residual_TH: Tensor,
    weight_H: Tensor,
    eps: float,
    boxes: Boxes,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (codes [T, H] of `dtype` and fp32 scales [T] of what `sum_add_rms_norm` norms, s + residual)."""
    x, residual = rows(x_TH), rows(residual_TH)
    codes = torch.empty(x.shape, dtype=dtype, device=x.device)
    scale_T = torch.empty(len(x), dtype=torch.float32, device=x.device)
    total = torch.empty_like(x)
    _launch(gpu, x, residual, weight_H, eps, boxes, out=codes, scale_T=scale_T, total=total)
    return codes, scale_T, total.view(x_TH.shape)


def _launch(
    gpu: Gpu,
    x: Tensor,
    residual: Tensor,
    weight_H: Tensor,
    eps: float,
    boxes: Boxes,
    *,
    out: Tensor,
    scale_T: Tensor | None,
    total: Tensor,
) -> None:
    if not takes_rows(x, boxes.size):
        raise KernelError(
            f"`sum_add_rms_norm` of {list(x.shape)}: must be 1 to {most_rows(boxes.size)} rows of whole "
            f"pieces of 16 bytes, at most {MOST_ROW_BYTES} bytes each"
        )
    operands, code = (x, residual, weight_H), None if scale_T is None else CODES[out.dtype]
    kernel = planned(
        gpu,
        "sum_add_rms_norm",
        operands,
        lambda: _kernel(gpu, *operands, size=boxes.size, code=code),
        boxes.size,
        code,
    )
    kernel(
        gpu.stream(),
        (len(x), 1),
        *(operand.data_ptr() for operand in operands),
        out.data_ptr(),
        0 if scale_T is None else scale_T.data_ptr(),
        total.data_ptr(),
        eps,
        boxes.addresses_R.data_ptr(),
        boxes.epochs_B.data_ptr(),
        boxes.rank,
    )


def row_epochs(size: int, device: torch.device) -> Tensor:
    """Return the counters of a group that has summed no rows yet."""
    return torch.zeros(most_rows(size), dtype=torch.int32, device=device)


def _kernel(gpu: Gpu, x: Tensor, residual: Tensor, weight: Tensor, *, size: int, code: str | None) -> Kernel:
    shape = tuple(x.shape)
    check(
        gpu,
        "sum_add_rms_norm",
        x=(x, x.dtype, shape),
        residual=(residual, x.dtype, shape),
        weight=(weight, x.dtype, shape[1:]),
    )
    if code is None:
        threads = num_threads(x.shape[1], x.element_size())
    else:
        threads = row_threads(x.shape[1], num_rows=len(x), num_sms=gpu.num_sms)
    constants = (
        ("SCALAR", scalar_name("sum_add_rms_norm", x)),
        ("RANKS", size),
        ("MOST_ROWS", most_rows(size)),
        ("SLOT_BYTES", SLOT_BYTES),
        ("HIDDEN", x.shape[1]),
        ("THREADS", threads),
        *(() if code is None else (("CODE", code),)),
    )
    return gpu.kernel("sum_ranks_norm.cu", "sum_add_rms_norm", constants, "PPPPPPfPPi", threads=threads)
