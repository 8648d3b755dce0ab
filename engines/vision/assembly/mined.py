"""Mini-Gemini: each patch of the first tower attends to its own cell of the second tower's map.

    q = query(norm x), k = key(norm a), v = value(norm a)   a: the p x p places of the map in the patch's cell
    rows = projector(x + softmax(q.k / sqrt(H)) v)

Source: dvlab-research/MGM, mgm/model/mgm_arch.py (encode_images, unified_resampler), mgm/serve/cli.py.

Legend: V views of a picture, S side in pixels, C colours or channels, L patches of a view, P places in a
cell, H first tower's width, O decoder hidden.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.spec import VisionSpec
from engines.vision.assembly.mined_spec import MinedSpec
from engines.vision.norm import Norm
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import in_passes, resized_map, stacked

NORM_EPS = 1e-5  # torch's default, which upstream leaves


class Mined:
    """The encoder; pictures go one by one, their maps are large."""

    def __init__(self, own: MinedSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._own = own
        self._ops = ops
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._mean_C = torch.tensor(spec.pixels.mean, device=self._weight.device)
        self._std_C = torch.tensor(spec.pixels.std, device=self._weight.device)
        self._tower, self._map_tower = (
            tower.build(params, tower_name(i), ops=ops) for i, tower in enumerate(spec.towers)
        )
        self._norms = {
            name: Norm(params, f"mining.{name}_norm", eps=NORM_EPS, ops=ops)
            for name in ("query", "key", "value")
        }
        self._linears = {name: linear_of(params, f"mining.{name}") for name in self._norms}
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return the rows [M, O] of each image."""
        return [self._encode(image, max_tiles) for image in images]

    def _encode(self, image: ImagePixels, max_tiles: int) -> Tensor:
        numbers_1SSC = self._numbers(stacked([image], self._weight.device))
        views_VSSC = views(self._own, numbers_1SSC).to(self._weight.dtype)
        x_VLH = in_passes(self._tower, views_VSSC, max_tiles)
        map_1yxC = self._map_tower(numbers_1SSC.to(self._weight.dtype))
        maps = self._maps(map_1yxC)
        mined = torch.stack([self._mined(x_LH, cells) for x_LH, cells in zip(x_VLH, maps, strict=True)])
        rows_VLO = self._projector(mined)
        if self._own.whole:
            rows_VLO = torch.cat([rows_VLO[-1:], rows_VLO[:-1]])
        return rows_VLO.flatten(0, 1)

    def _numbers(self, pixels: Tensor) -> Tensor:
        """Return normalised fp32; floats are normalised already."""
        if pixels.is_floating_point():
            return pixels.float()
        return (pixels.float() / 255 - self._mean_C) / self._std_C

    def _maps(self, map_1yxC: Tensor) -> list[Tensor]:
        """Return the part of the map that belongs to each view, [y, x, C]."""
        parts = list(_quadrants(map_1yxC, self._own.grid))
        if self._own.whole:
            parts.append(resized_map(map_1yxC, map_1yxC.shape[1] // self._own.grid)[0])
        return parts

    def _mined(self, x_LH: Tensor, map_yxC: Tensor) -> Tensor:
        """Return a view's patches with what they found, [L, H]."""
        side = self._own.side
        places = map_yxC.shape[0] // side
        cells = map_yxC.reshape(side, places, side, places, -1).transpose(1, 2)
        cells_LPC = cells.reshape(side * side, places * places, -1)
        q_LH, k_LPH = self._projected("query", x_LH), self._projected("key", cells_LPC)
        scores_LP = torch.einsum("lh,lph->lp", q_LH, k_LPH / x_LH.shape[-1] ** 0.5)
        weights_LP = F.softmax(scores_LP, dim=-1, dtype=torch.float32).to(x_LH.dtype)
        return x_LH + torch.einsum("lp,lph->lh", weights_LP, self._projected("value", cells_LPC))

    def _projected(self, name: str, x: Tensor) -> Tensor:
        return self._ops.linear(self._norms[name](x), self._linears[name])


def views(own: MinedSpec, numbers_1SSC: Tensor) -> Tensor:
    """Return what the first tower sees of a picture: tiles row by row, the whole picture last."""
    smaller_1SSC = resized_map(numbers_1SSC, own.grid * own.image)
    tiles_VSSC = _quadrants(smaller_1SSC, own.grid)
    return torch.cat([tiles_VSSC, resized_map(smaller_1SSC, own.image)]) if own.whole else tiles_VSSC


def _quadrants(x_1yxC: Tensor, grid: int) -> Tensor:
    """Return a square cut into grid x grid squares, row by row."""
    side = x_1yxC.shape[1] // grid
    cut = x_1yxC.reshape(grid, side, grid, side, -1).transpose(1, 2)
    return cut.reshape(grid * grid, side, side, -1)
