"""A norm of a tower or a projector over its parameters: layer norm, or RMS norm where it has no bias.

Legend: H the last axis; leading axes are any.
"""

from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params


class Norm:
    """`<name>.weight` and, of a layer norm, `<name>.bias`."""

    def __init__(self, params: Params, name: str, *, eps: float, ops: Ops) -> None:
        self._weight_H = params[f"{name}.weight"]
        self._bias_H = params.get(f"{name}.bias")
        self._eps = eps
        self._ops = ops

    def __call__(self, x_H: Tensor) -> Tensor:
        """Return x normed over its last axis, in its shape and dtype."""
        if self._bias_H is None:
            return self._ops.rms_norm(x_H, self._weight_H, self._eps)
        return self._ops.layer_norm(x_H, self._weight_H, self._bias_H, self._eps)
