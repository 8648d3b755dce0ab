"""Linear layers with GELU between them, and in Yi-VL a norm behind each.

    x = norm1(fc1 x);  x = norm2(fc2 gelu(x));  ...

Legend: I tiles, L patches of a tile, H tower hidden, O decoder hidden.
"""

from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.projectors.mlp_spec import MlpSpec

NORM_EPS = 1e-5  # torch's default, which upstream leaves


class Mlp:
    """The projector."""

    def __init__(self, spec: MlpSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        numbers = range(1, spec.depth + 1)
        self._layers = [linear_of(params, f"projector.fc{i}") for i in numbers]
        names = [f"projector.norm{i}" for i in numbers] if spec.norms else []
        self._norms = [Norm(params, name, eps=NORM_EPS, ops=ops) for name in names]

    def __call__(self, x_ILH: Tensor) -> Tensor:
        """Return [I, L, O]."""
        ops = self._ops
        for i, layer in enumerate(self._layers):
            x_ILH = ops.linear(ops.gelu(x_ILH) if i else x_ILH, layer)
            if self._norms:
                x_ILH = self._norms[i](x_ILH)
        return x_ILH
