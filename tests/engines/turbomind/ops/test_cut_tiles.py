"""Pictures cut by the kernel, by the torch table and by Pillow: the same bytes."""

import numpy as np
import pytest
import torch
from PIL import Image

from engines.errors import KernelError
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops_table import TurbomindOps
from engines.vision.device_pixels import DevicePixels
from engines.vision.parts import ImagePixels
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec


def spec(side: int, max_tiles: int = 12) -> DynamicTilesSpec:
    return DynamicTilesSpec(
        image=side, min_tiles=1, max_tiles=max_tiles, thumbnail=True, mean=(0, 0, 0), std=(1, 1, 1)
    )


def noise(width: int, height: int) -> np.ndarray:
    """Return a picture, a fourth byte that means nothing in each pixel."""
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)


def check(ops, device: torch.device, pixels: DynamicTilesSpec, width: int, height: int) -> None:
    picture, plan = noise(width, height), pixels.plan(width, height)
    image = ImagePixels(arrays=(picture,), plan=plan, is_cut=False)
    (cut,) = DevicePixels(pixels, ops=ops, device=device)([image])
    (wanted,) = pixels.arrays(Image.fromarray(picture[..., :3]), plan)
    assert cut.is_cut and np.array_equal(cut.arrays[0].cpu().numpy(), wanted)


@pytest.mark.parametrize(
    ("side", "width", "height"),
    [
        (28, 28, 28),  # nothing to resize
        (28, 84, 56),  # whole tiles; the thumbnail shrinks
        (28, 28, 61),  # one axis
        (14, 200, 11),  # one grows, one shrinks
        (28, 3, 300),  # height first
        (14, 1, 1),
        (28, 611, 90),  # long windows; more columns than a block
    ],
)
def test_tiles_are_pillows_to_the_byte(gpu, side: int, width: int, height: int) -> None:
    check(TurbomindOps(gpu), gpu.device, spec(side), width, height)
    check(TorchOps(), gpu.device, spec(side), width, height)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("width", "height"), [(1792, 1344), (4032, 3024), (640, 480), (70_000, 40), (40, 70_000)]
)
def test_tiles_of_shipped_models_are_pillows_to_the_byte(cuda_gpu, width: int, height: int) -> None:
    check(TurbomindOps(cuda_gpu), cuda_gpu.device, spec(448), width, height)


def test_rows_that_are_no_tiles_are_refused(gpu) -> None:
    pixels = spec(28)
    cut = DevicePixels(pixels, ops=TurbomindOps(gpu), device=gpu.device)
    picture = torch.zeros(56, 30, 4, dtype=torch.uint8, device=gpu.device)
    passes = [cut._pass(True, 56, 28, "bicubic")]
    with pytest.raises(KernelError, match="`cut_tiles`: 30 x 28 pixels are no whole tiles of 28"):
        TurbomindOps(gpu).cut_tiles(picture, passes, picture.new_empty(1, 28, 28, 3))
