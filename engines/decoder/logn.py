"""Logn attention: queries beyond the trained length are stretched, so that late tokens attend as sharply."""

import math

import torch
from torch import Tensor


def query_scale(positions_T: Tensor, length: int | None, dtype: torch.dtype) -> Tensor | None:
    """Return the factor of each token's queries, [T, 1, 1]; None: there is no such length."""
    if length is None:
        return None
    scale_T = torch.log(positions_T + 1.0) / math.log(length)
    return scale_T.clamp(min=1.0).to(dtype).view(-1, 1, 1)
