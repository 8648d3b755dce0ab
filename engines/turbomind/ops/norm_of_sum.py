"""The norm behind a sum over ranks: one kernel for few rows; else the sum, then the norm."""

import torch
from torch import Tensor

from engines.parallel import TpGroup
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import norm, quantize_rows
from engines.turbomind.ops.sum_ranks_norm import sum_add_rms_norm, sum_add_rms_norm_codes
from engines.turbomind.rank_sums import RankSums


def add_rms_norm(
    gpu: Gpu, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, group: TpGroup | None
) -> tuple[Tensor, Tensor]:
    """Return (rms_norm(s + residual) * weight, s + residual); s is x, with a group its sum over the ranks."""
    sums = None if group is None else group.sums
    if isinstance(sums, RankSums) and sums.takes_rows(x_TH):
        return sum_add_rms_norm(gpu, x_TH, residual_TH, weight_H, eps, sums.row_boxes)
    return norm.add_rms_norm(gpu, summed(x_TH, group), residual_TH, weight_H, eps)


def add_rms_norm_codes(
    gpu: Gpu,
    x_TH: Tensor,
    residual_TH: Tensor,
    weight_H: Tensor,
    eps: float,
    dtype: torch.dtype,
    group: TpGroup | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (codes and scales of the normed rows, s + residual); s as in `add_rms_norm`."""
    sums = None if group is None else group.sums
    if isinstance(sums, RankSums) and sums.takes_rows(x_TH):
        return sum_add_rms_norm_codes(gpu, x_TH, residual_TH, weight_H, eps, sums.row_boxes, dtype)
    return quantize_rows.add_rms_norm_codes(gpu, summed(x_TH, group), residual_TH, weight_H, eps, dtype)


def summed(x: Tensor, group: TpGroup | None) -> Tensor:
    """Return x, with a group its sum over the ranks, which may be written over x."""
    return x if group is None else group.all_reduce(x)
