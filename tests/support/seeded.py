"""Random tensors that are the same in every run."""

import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return normal numbers, drawn in float32 and rounded."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
