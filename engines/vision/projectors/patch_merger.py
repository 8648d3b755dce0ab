"""The projector of Qwen2-VL: each cell of patches becomes one row.

Legend: L patches, cell by cell; H tower hidden, M cells, O decoder hidden.
"""

from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.projectors.patch_merger_spec import PatchMergerSpec


class PatchMerger:
    """Norm over a patch, join, Linear, GELU, Linear."""

    def __init__(self, spec: PatchMergerSpec, params: Params, *, ops: Ops) -> None:
        self._ops = ops
        self._patches = spec.merge**2
        self._norm = Norm(params, "projector.norm", eps=spec.norm_eps, ops=ops)
        self._fc1 = linear_of(params, "projector.fc1")
        self._fc2 = linear_of(params, "projector.fc2")

    def __call__(self, features_LH: Tensor) -> Tensor:
        """Return [M, O]."""
        ops = self._ops
        cells = self._norm(features_LH).view(len(features_LH) // self._patches, -1)
        return ops.linear(ops.linear_gelu(cells, self._fc1, "gelu"), self._fc2)
