"""Pictures that come whole give what pictures give that come cut."""

import numpy as np
import pytest
import torch
from PIL import Image

from engines.pytorch.ops_torch import TorchOps
from engines.vision import device_pixels
from engines.vision.device_pixels import DevicePixels
from engines.vision.parts import ImagePixels
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

SPEC = DynamicTilesSpec(image=28, min_tiles=1, max_tiles=6, thumbnail=True, mean=(0, 0, 0), std=(1, 1, 1))


def pixels_of(spec: DynamicTilesSpec) -> DevicePixels:
    return DevicePixels(spec, ops=TorchOps(), device=torch.device("cpu"))


def whole(width: int, height: int, spec: DynamicTilesSpec = SPEC) -> ImagePixels:
    dice = np.random.default_rng(width)
    picture = dice.integers(0, 256, (height, width, 4), dtype=np.uint8)
    return ImagePixels(arrays=(picture,), plan=spec.plan(width, height), is_cut=False, shared=(3,))


def on_host(image: ImagePixels, spec: DynamicTilesSpec = SPEC) -> np.ndarray:
    (tiles,) = spec.arrays(Image.fromarray(np.asarray(image.arrays[0])[..., :3]), image.plan)
    return tiles


@pytest.mark.parametrize("size", [(28, 28), (56, 84), (28, 500), (333, 41), (5, 4), (90, 28), (28, 90)])
@pytest.mark.parametrize(
    "spec", [SPEC, SPEC.low_detail(), SPEC.changed({"thumbnail": False})], ids=["tiles", "low", "bare"]
)
def test_the_tiles_are_those_of_the_host(spec: DynamicTilesSpec, size: tuple[int, int]) -> None:
    image = whole(*size, spec)
    (cut,) = pixels_of(spec)([image])
    assert torch.equal(torch.as_tensor(cut.arrays[0]), torch.from_numpy(on_host(image, spec)))
    assert (cut.is_cut, cut.plan, cut.shared) == (True, image.plan, (3,))


def test_pictures_keep_their_order_whether_they_come_cut_or_not() -> None:
    one, other = whole(60, 30), whole(30, 60)
    ready = ImagePixels(arrays=(on_host(one),), plan=one.plan)
    first, second, third = pixels_of(SPEC)([other, ready, one])
    assert np.array_equal(np.asarray(second.arrays[0]), on_host(one))
    assert np.array_equal(np.asarray(first.arrays[0]), on_host(other))
    assert np.array_equal(np.asarray(third.arrays[0]), on_host(one))


def test_weights_of_sizes_that_do_not_come_again_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_pixels, "_KEPT_PASSES", 4)
    cut = pixels_of(SPEC)
    for width in range(30, 60):
        cut([whole(width, 40)])
    assert len(cut._passes) == 4
    (last,) = cut([image := whole(59, 40)])
    assert np.array_equal(np.asarray(last.arrays[0]), on_host(image))
