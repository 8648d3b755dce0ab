"""A linear layer, a norm and a gated FFN, in most models behind a 2 x 2 convolution.

    x = conv(x), stride 2, if there is one
    x = gelu(norm(fc x));  x = down(silu(gate x) * up x)

Legend: I tiles, L patches of a tile, y and x their grid, D tower hidden, C the convolution's width, M rows, O
decoder hidden.
"""

from torch import Tensor

from engines.ops import Dense, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.projectors.gated_mlp_spec import GatedMlpSpec

NORM_EPS = 1e-5  # torch's default, which upstream leaves


class GatedMlp:
    """The projector."""

    def __init__(self, spec: GatedMlpSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._conv: Dense | None = None
        if spec.merged is not None:
            weight_C4D = params["projector.conv.weight"].flatten(1)
            self._conv = Dense(weight_OI=weight_C4D, bias_O=params["projector.conv.bias"])
        self._fc = linear_of(params, "projector.fc")
        self._norm = Norm(params, "projector.norm", eps=NORM_EPS, ops=ops)
        self._gate_up = linear_of(params, "projector.gate_up")
        self._down = linear_of(params, "projector.down")

    def __call__(self, x_ILD: Tensor) -> Tensor:
        """Return [I, M, O]: a row a patch, or one for each square of four."""
        ops = self._ops
        x_IMC = x_ILD if self._conv is None else ops.linear(squares_of_four(x_ILD), self._conv)
        x_IMO = ops.gelu(self._norm(ops.linear(x_IMC, self._fc)))
        return ops.linear(ops.silu_mul(ops.linear(x_IMO, self._gate_up)), self._down)


def squares_of_four(x_ILD: Tensor) -> Tensor:
    """Return the patches of each 2 x 2 square as a row, [I, L / 4, 4 D].

    Its numbers stand in the order of a convolution's weight.
    """
    num, patches, width = x_ILD.shape
    half = round(patches**0.5) // 2
    cells = x_ILD.reshape(num, half, 2, half, 2, width).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(num, half * half, 4 * width)
