"""Launches `kernels/sum_ranks_norm.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops.norm import num_threads
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
    if not takes_rows(x_TH, boxes.size):
        raise KernelError(
            f"`sum_add_rms_norm` of {list(x_TH.shape)}: must be 1 to {most_rows(boxes.size)} rows of whole "
            f"pieces of 16 bytes, at most {MOST_ROW_BYTES} bytes each"
        )
    x, residual = rows(x_TH), rows(residual_TH)
    operands = (x, residual, weight_H)
    kernel = planned(
        gpu, "sum_add_rms_norm", operands, lambda: _kernel(gpu, *operands, boxes.size), boxes.size
    )
    out, total = torch.empty_like(x), torch.empty_like(x)
    kernel(
        gpu.stream(),
        (len(x), 1),
        x.data_ptr(),
        residual.data_ptr(),
        weight_H.data_ptr(),
        out.data_ptr(),
        total.data_ptr(),
        eps,
        boxes.addresses_R.data_ptr(),
        boxes.epochs_B.data_ptr(),
        boxes.rank,
    )
    return out.view(x_TH.shape), total.view(x_TH.shape)


def row_epochs(size: int, device: torch.device) -> Tensor:
    """Return the counters of a group that has summed no rows yet."""
    return torch.zeros(most_rows(size), dtype=torch.int32, device=device)


def _kernel(gpu: Gpu, x: Tensor, residual: Tensor, weight: Tensor, size: int) -> Kernel:
    shape = tuple(x.shape)
    check(
        gpu,
        "sum_add_rms_norm",
        x=(x, x.dtype, shape),
        residual=(residual, x.dtype, shape),
        weight=(weight, x.dtype, shape[1:]),
    )
    threads = num_threads(x.shape[1], x.element_size())
    constants = (
        ("SCALAR", scalar_name("sum_add_rms_norm", x)),
        ("RANKS", size),
        ("MOST_ROWS", most_rows(size)),
        ("SLOT_BYTES", SLOT_BYTES),
        ("HIDDEN", x.shape[1]),
        ("THREADS", threads),
    )
    return gpu.kernel("sum_ranks_norm.cu", "sum_add_rms_norm", constants, "PPPPPfPPi", threads=threads)
