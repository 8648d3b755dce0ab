"""Attention over a grid of patches with relative positions, without a bias of patches by patches in memory.

    score = scale q.k + down[q, y of k] + across[q, x of k]
          = [scale q, down, across] . [k, one-hot of y, one-hot of x]

so it is plain attention with longer queries and keys, which flash kernels do.

Legend: as in `engines/ops.py`; Y, X lines and columns of the grid, L = Y X.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_grid(
    q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, down_ILNY: Tensor, across_ILNX: Tensor, *, scale: float
) -> Tensor:
    """Return [I, L, N, D]."""
    num_lines, num_columns = down_ILNY.shape[-1], across_ILNX.shape[-1]
    lines_YY = torch.eye(num_lines, dtype=k_ILND.dtype, device=k_ILND.device)
    columns_XX = torch.eye(num_columns, dtype=k_ILND.dtype, device=k_ILND.device)
    place_LZ = torch.cat(
        [lines_YY.repeat_interleave(num_columns, dim=0), columns_XX.repeat(num_lines, 1)], dim=1
    )
    place_ILNZ = place_LZ.unsqueeze(1).expand(*k_ILND.shape[:3], -1)
    query = torch.cat([q_ILND * scale, down_ILNY, across_ILNX], dim=-1)
    key = torch.cat([k_ILND, place_ILNZ], dim=-1)
    q, k, v = (x.transpose(1, 2) for x in (query, key, v_ILND))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
