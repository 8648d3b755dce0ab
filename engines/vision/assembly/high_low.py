"""One square picture seen by two towers, each with its own resolution and normalising.

Source: deepseek-ai/DeepSeek-VL, deepseek_vl/models/clip_encoder.py (HybridVisionTower).

Legend: I tiles, S side in pixels, C colours, M rows of a picture, O decoder hidden.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.assembly.high_low_spec import HighLowSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import in_passes, per_image, stacked


class HighLow:
    """The encoder."""

    def __init__(self, own: HighLowSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._low_image = own.low_image
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._high_norm = self._pair(spec.pixels.mean, spec.pixels.std)
        self._low_norm = self._pair(own.low_mean, own.low_std)
        self._high, self._low = (
            tower.build(params, tower_name(i), ops=ops) for i, tower in enumerate(spec.towers)
        )
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return the rows [M, O] of each image."""
        rows_IMO = in_passes(self._encode, stacked(images, self._weight.device), max_tiles)
        return per_image(rows_IMO, images)

    def _encode(self, tiles_ISSC: Tensor) -> Tensor:
        """Encode uint8 tiles, or floats from 0 to 1."""
        numbers = tiles_ISSC if tiles_ISSC.is_floating_point() else tiles_ISSC.float() / 255
        high = self._high(self._normalised(numbers, *self._high_norm))
        low = self._low(self._normalised(smaller(numbers, self._low_image), *self._low_norm))
        return self._projector(high, low)

    def _normalised(self, numbers_ISSC: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
        return ((numbers_ISSC - mean_C) / std_C).to(self._weight.dtype)

    def _pair(self, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
        device = self._weight.device
        return torch.tensor(mean, device=device), torch.tensor(std, device=device)


def smaller(numbers_ISSC: Tensor, side: int) -> Tensor:
    """Return square pictures at another resolution, bilinear and antialiased."""
    pictures_ICSS = numbers_ISSC.permute(0, 3, 1, 2)
    resized = F.interpolate(
        pictures_ICSS, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.permute(0, 2, 3, 1)
