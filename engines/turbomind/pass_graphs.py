"""Passes of a picture encoder replayed from CUDA graphs, one for each of some numbers of tiles.

A pass of one tile is some three hundred launches that together take less time on the GPU than the host takes
to make them. Tiles are copied into fixed memory and padded with what lay there to the next larger number.

Legend: I tiles, S side in pixels, C colours, M rows a tile gives, O decoder hidden.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engines.turbomind.recorder import Recorder

if TYPE_CHECKING:
    from engines.vision.parts import EncodePass

# Up to this number of tiles this far apart: from 4 on no pass computes more than a sixth for nothing.
_STEPS = ((2, 1), (16, 2), (1 << 30, 4))


def pass_sizes(max_tiles: int, *, picture_tiles: int) -> list[int]:
    """Return the numbers of tiles that are captured, the last one exactly `max_tiles`.

    What large pictures leave to their last pass is among them: of a photo, one is most of the work.
    """
    sizes, size = {max_tiles, picture_tiles % max_tiles or max_tiles}, 1
    while size < max_tiles:
        sizes.add(size)
        size += next(step for limit, step in _STEPS if size < limit)
    return sorted(sizes)


class PassGraphs:
    """Implements `engines.vision.parts.EncodePass`. Passes run in order, on one stream."""

    def __init__(
        self,
        encode: "EncodePass",
        *,
        tile_shape: tuple[int, ...],
        sizes: list[int],
        device: torch.device,
        recorder: Recorder,
    ) -> None:
        self._encode = encode
        self._recorder = recorder
        self._sizes = sizes
        self._tiles_ISSC = torch.zeros(sizes[-1], *tile_shape, dtype=torch.uint8, device=device)
        self._graphs: dict[int, tuple[Callable[[], None], Tensor]] = {}
        self.replays = 0

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, the largest first: the others live in its memory."""
        sizes = self._sizes[::-1]
        runs = [partial(self._run, size) for size in sizes]
        for size, (replay, (rows_IMO,)) in zip(sizes, self._recorder.record(runs), strict=True):
            self._graphs[size] = (replay, rows_IMO)

    def __call__(self, tiles_ISSC: Tensor) -> Tensor:
        """Return rows [I, M, O] of uint8 tiles; whatever else comes is encoded launch by launch."""
        num = len(tiles_ISSC)
        if num > self._sizes[-1] or tiles_ISSC.is_floating_point():
            return self._encode(tiles_ISSC)
        self._tiles_ISSC[:num].copy_(tiles_ISSC)
        replay, rows_IMO = self._graphs[next(size for size in self._sizes if size >= num)]
        replay()
        self.replays += 1
        return rows_IMO[:num].clone()  # the next pass writes over it

    def _run(self, size: int) -> tuple[Tensor]:
        return (self._encode(self._tiles_ISSC[:size]),)
