"""Pictures of any size through the Qwen2-VL tower, one after the other: each fills a pass of its own.

So does each step of a video: its patches join two frames, and none sees those of another step.

Legend: L patches, X numbers of a patch, M cells, O decoder hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, on_device
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec


class NativeRows:
    """The encoder."""

    def __init__(self, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        tower = spec.towers[0]
        assert isinstance(tower, Qwen2VitSpec), "the `native` assembly cuts patches for qwen2_vit"
        self._spec = tower
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._normalised = Normaliser.of(spec, self._weight)
        self._tower = tower.build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [M, O] of each picture and each video."""
        return [self._rows(image) for image in images]

    def _rows(self, image: ImagePixels) -> Tensor:
        array = on_device(image.arrays[0], self._weight.device)
        if not image.plan.times:
            return self._encoded(array, image.plan.grid)
        steps = array.tensor_split(len(image.plan.times))
        return torch.cat([self._encoded(step, image.plan.grid) for step in steps])

    def _encoded(self, array: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the rows of one pass; an array of two axes holds patches that are cut already."""
        pixels = self._normalised(array)
        patches_LX = pixels if pixels.dim() == 2 else cell_patches(pixels, self._spec)
        return self._projector(self._tower(patches_LX, grid))


def cell_patches(pixels: Tensor, spec: Qwen2VitSpec) -> Tensor:
    """Cut frames [frames, height, width, 3] into patches cell by cell; a picture [height, width, 3] is all.

    A patch's numbers are ordered by colour, frame, row, column, as the convolution's weight is.
    """
    side = spec.patch
    frames = pixels.unsqueeze(0) if pixels.dim() == 3 else pixels
    rows, columns = frames.shape[1] // (side * spec.merge), frames.shape[2] // (side * spec.merge)
    cut = frames.reshape(-1, rows, spec.merge, side, columns, spec.merge, side, 3)
    patches = cut.permute(1, 4, 2, 5, 7, 0, 3, 6).reshape(rows * columns * spec.merge**2, 3, -1, side, side)
    return patches.expand(-1, -1, spec.frames, -1, -1).flatten(1)
