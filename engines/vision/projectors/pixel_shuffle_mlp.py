"""The projector of InternVL: join each square of neighbouring patches into one row, then norm and MLP.

Legend: I tiles, L patches of a tile, H tower hidden, M rows a tile gives, O decoder hidden.
"""

from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec

MLP_NORM_EPS = 1e-5  # torch's default, which upstream leaves


class PixelShuffleMlp:
    """Join each square of neighbouring patches into one row, then norm and a two-layer MLP."""

    def __init__(self, spec: PixelShuffleMlpSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._factor = spec.factor
        self._by_columns = spec.shuffle_version == "v1"
        self._norm = (params["projector.norm.weight"], params["projector.norm.bias"])
        self._fc1 = linear_of(params, "projector.fc1")
        self._fc2 = linear_of(params, "projector.fc2")

    def __call__(self, features_ILH: Tensor) -> Tensor:
        """Return [I, M, O]."""
        ops = self._ops
        # Upstream's first version of the shuffle mixes up lines and columns.
        rows = ops.layer_norm_cells(
            features_ILH, *self._norm, MLP_NORM_EPS, factor=self._factor, by_columns=self._by_columns
        )
        return ops.linear(ops.linear_gelu(rows, self._fc1, "gelu"), self._fc2)
