"""Two towers side by side: fc2 gelu [high h, low l].

Legend: I tiles, L patches of a tile, H tower hidden, O decoder hidden.
"""

import torch
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params, linear_of


class HighLowMlp:
    """The projector."""

    def __init__(self, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._high = linear_of(params, "projector.high")
        self._low = linear_of(params, "projector.low")
        self._fc2 = linear_of(params, "projector.fc2")

    def __call__(self, high_ILH: Tensor, low_ILH: Tensor) -> Tensor:
        """Return [I, L, O]."""
        ops = self._ops
        halves = [ops.linear(high_ILH, self._high), ops.linear(low_ILH, self._low)]
        return ops.linear(ops.gelu(torch.cat(halves, dim=-1)), self._fc2)
