"""Pictures of any size through the Qwen2-VL tower, one after the other: each fills a pass of its own.

Legend: L patches, X numbers of a patch, M cells, O decoder hidden.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from engines.ops import Ops
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, on_device
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec


class NativeRows:
    """The encoder."""

    def __init__(self, spec: VisionSpec, params: Mapping[str, Tensor], *, ops: Ops) -> None:
        tower = spec.towers[0]
        assert isinstance(tower, Qwen2VitSpec), "the `native` assembly cuts patches for qwen2_vit"
        self._spec = tower
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._normalised = Normaliser.of(spec, self._weight)
        self._tower = tower.build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [M, O] of each picture."""
        return [self._projector(self._tower(self._patches(image), image.plan.grid)) for image in images]

    def _patches(self, image: ImagePixels) -> Tensor:
        """Return [L, X]; an array of two axes holds patches that are cut already."""
        pixels = self._normalised(on_device(image.arrays[0], self._weight.device))
        return pixels if pixels.dim() == 2 else cell_patches(pixels, self._spec)


def cell_patches(pixels: Tensor, spec: Qwen2VitSpec) -> Tensor:
    """Cut a picture [height, width, 3] into patches cell by cell, the picture repeated in each frame.

    A patch's numbers are ordered by colour, frame, row, column, as the convolution's weight is.
    """
    side = spec.patch
    rows, columns = pixels.shape[0] // (side * spec.merge), pixels.shape[1] // (side * spec.merge)
    cut = pixels.reshape(rows, spec.merge, side, columns, spec.merge, side, 3)
    patches = cut.permute(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, 1, side, side)
    return patches.expand(-1, -1, spec.frames, -1, -1).flatten(1)
