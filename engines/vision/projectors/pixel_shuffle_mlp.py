"""The projector of InternVL: join each square of neighbouring patches into one row, then norm and MLP.

Legend: I tiles, L patches of a tile, H tower hidden, M rows a tile gives, O decoder hidden.
"""

from torch import Tensor

from engines.decoder.layers import Params, linear_weight
from engines.ops import Ops
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec

MLP_NORM_EPS = 1e-5  # torch's default, which upstream leaves


class PixelShuffleMlp:
    """Join each square of neighbouring patches into one row, then norm and a two-layer MLP."""

    def __init__(self, spec: PixelShuffleMlpSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._factor = spec.factor
        self._is_transposed = spec.shuffle_version == "v1"
        self._norm = (params["projector.norm.weight"], params["projector.norm.bias"])
        self._fc1 = linear_weight(params, "projector.fc1")
        self._fc2 = linear_weight(params, "projector.fc2")

    def __call__(self, features_ILH: Tensor) -> Tensor:
        """Return [I, M, O]."""
        ops = self._ops
        rows = pixel_shuffle(features_ILH, self._factor, transposed=self._is_transposed)
        rows = ops.layer_norm(rows, *self._norm, MLP_NORM_EPS)
        return ops.linear(ops.linear_gelu(rows, self._fc1, "gelu"), self._fc2)


def pixel_shuffle(features_ILH: Tensor, factor: int, *, transposed: bool) -> Tensor:
    """Return [I, L / factor^2, factor^2 * H]: cell (r, s) holds patches (factor r + a, factor s + b), a
    before b.

    Cells come row by row; `transposed` (upstream's version 1) gives them column by column.
    """
    num, length, hidden = features_ILH.shape
    grid = round(length**0.5)
    cells = grid // factor
    split = features_ILH.reshape(num, cells, factor, cells, factor, hidden)
    order = (0, 3, 1, 2, 4, 5) if transposed else (0, 1, 3, 2, 4, 5)
    return split.permute(order).reshape(num, cells * cells, factor * factor * hidden)
