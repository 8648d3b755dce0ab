"""What stands ahead of a transformer's layers: patches times a weight, a class token, positions.

    x = [class, patches W^T + b] + positions

All of it is one product, since a row says itself whether it is a patch or the token (`PatchLayout`).

Legend: I tiles, S side in pixels, C colours, L tokens of a tile (class first), H hidden, W inputs.
"""

import torch.nn.functional as F
from torch import Tensor

from engines.ops import BytePixels, Dense, Ops, PatchLayout, RepeatedRows


class PatchEmbedding:
    """The first product of a tower, over its parameters."""

    def __init__(
        self,
        *,
        weight_HCpp: Tensor,
        bias_H: Tensor | None,
        class_token_H: Tensor | None,
        positions_LH: Tensor,
        ops: Ops,
    ) -> None:
        """Take a convolution's weight; positions of the class token, where there is one, and all patches."""
        self._ops = ops
        self._layout = PatchLayout(patch=weight_HCpp.shape[-1], has_class=class_token_H is not None)
        pixels = self._layout.num_pixels
        weight_HW = F.pad(weight_HCpp.flatten(1), (0, self._layout.width - pixels))
        if bias_H is not None:
            weight_HW[:, pixels] = bias_H
        if class_token_H is not None:
            weight_HW[:, pixels + 1] = class_token_H
        self._weight = Dense(weight_OI=weight_HW, bias_O=None)
        self._positions = RepeatedRows.of(positions_LH)

    def __call__(self, pixels: Tensor | BytePixels, positions_LH: Tensor | None = None) -> Tensor:
        """Return [I, L, H], at other positions where they are given."""
        rows_ILW = self._ops.patch_rows(pixels, self._layout)
        if positions_LH is not None:
            return self._ops.linear(rows_ILW, self._weight) + positions_LH
        return self._ops.linear_add(rows_ILW, self._weight, self._positions)
