"""Pictures on their way to the tower: copied to its device, and cut there where they came whole.

What is cut on the device has the bytes that the host would give. From ordinary memory a copy waits for all
that its stream has to do, so copies have a stream of their own.

Legend: Y, X lines and columns of a picture, I tiles, S their side, C colours.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.ops import AxisPass, Ops
from engines.vision.parts import Cut, Filter, ImagePixels, PixelSpec
from engines.vision.passes import on_device
from engines.vision.pixels.resample import taps
from engines.vision.pixels.resize import height_first

_KEPT_PASSES = 256  # of some ten kilobytes each


class DevicePixels:
    """Brings the pictures of one model to one device."""

    def __init__(self, pixels: PixelSpec, *, ops: Ops, device: torch.device) -> None:
        self._pixels = pixels
        self._ops = ops
        self._device = device
        self._copies = _stream(device) if device.type == "cuda" else None
        self._passes: OrderedDict[tuple[bool, int, int, Filter], AxisPass] = OrderedDict()

    def __call__(self, images: Sequence[ImagePixels]) -> list[ImagePixels]:
        """Return the pictures cut and on the device, in their order.

        One after another, so that the memory of a whole picture is there once.
        """
        return [self._brought(image) for image in images]

    def _brought(self, image: ImagePixels) -> ImagePixels:
        arrays = tuple(self._copied(array) for array in image.arrays)
        return replace(image, arrays=arrays) if image.is_cut else self._cut(image, *arrays)

    def _copied(self, array: NDArray[Any] | Tensor) -> Tensor:
        """Return an array on the device; what is queued now on the current stream comes after the copy."""
        if self._copies is None or isinstance(array, Tensor):
            return on_device(array, self._device)
        with torch.cuda.stream(self._copies):
            there = torch.from_numpy(array if array.flags.writeable else np.array(array)).to(self._device)
        stream = torch.cuda.current_stream(self._device)
        stream.wait_stream(self._copies)
        there.record_stream(stream)
        return there

    def _cut(self, image: ImagePixels, picture_YX4: Tensor) -> ImagePixels:
        tiles_ISSC = picture_YX4.new_empty(self._pixels.shapes(image.plan)[0])
        start = 0
        for cut in self._pixels.cuts(image.plan):
            count = (cut.width // cut.side) * (cut.height // cut.side)
            passes = [*self._resized(picture_YX4, cut)]
            self._ops.cut_tiles(picture_YX4, passes, tiles_ISSC[start : start + count])
            start += count
        return replace(image, arrays=(tiles_ISSC,), is_cut=True)

    def _resized(self, picture_YX4: Tensor, cut: Cut) -> Iterator[AxisPass]:
        """Yield the passes of a cut: those that change a size, or one that changes nothing."""
        height, width, _ = picture_YX4.shape
        down = self._pass(True, height, cut.height, cut.filter) if height != cut.height else None
        across = self._pass(False, width, cut.width, cut.filter) if width != cut.width else None
        if down is None and across is None:
            across = self._pass(False, width, width, cut.filter)
        is_down_first = height_first((width, height), (cut.width, cut.height))
        for one in (down, across) if is_down_first else (across, down):
            if one is not None:
                yield one

    def _pass(self, is_down: bool, length: int, new_length: int, how: Filter) -> AxisPass:
        key = (is_down, length, new_length, how)
        found = self._passes.get(key)
        if found is None:
            numbers = taps(length, new_length, how)
            found = self._passes[key] = AxisPass(
                is_down=is_down,
                first_N=self._copied(numbers.first_N),
                weight_KN=self._copied(numbers.weight_KN),
            )
            if len(self._passes) > _KEPT_PASSES:
                self._passes.popitem(last=False)
        self._passes.move_to_end(key)
        return found


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's stubs
    return stream
