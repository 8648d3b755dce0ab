"""The projector of Qwen2-VL: each cell of patches becomes one row.

Legend: L patches, cell by cell; H tower hidden, M cells, O decoder hidden.
"""

from torch import Tensor

from engines.decoder.layers import Params, linear_weight
from engines.ops import Ops
from engines.vision.projectors.patch_merger_spec import PatchMergerSpec


class PatchMerger:
    """Norm over a patch, join, Linear, GELU, Linear."""

    def __init__(self, spec: PatchMergerSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._eps = spec.norm_eps
        self._patches = spec.merge**2
        self._norm_H = params["projector.norm.weight"]
        self._norm_bias_H = params.get("projector.norm.bias")
        self._fc1 = linear_weight(params, "projector.fc1")
        self._fc2 = linear_weight(params, "projector.fc2")

    def __call__(self, features_LH: Tensor) -> Tensor:
        """Return [M, O]."""
        ops = self._ops
        if self._norm_bias_H is None:
            normed_LH = ops.rms_norm(features_LH, self._norm_H, self._eps)
        else:
            normed_LH = ops.layer_norm(features_LH, self._norm_H, self._norm_bias_H, self._eps)
        cells = normed_LH.view(len(normed_LH) // self._patches, -1)
        return ops.linear(ops.linear_gelu(cells, self._fc1, "gelu"), self._fc2)
