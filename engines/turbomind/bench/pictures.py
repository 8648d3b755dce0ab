"""Cases of what stands between a decoded picture and a tower's first product."""

from collections.abc import Iterator
from functools import partial

import torch

from engines.ops import AxisPass, BytePixels, PatchLayout
from engines.pytorch.cut_tiles import cut_tiles as cut_tiles_torch
from engines.pytorch.patch_rows import patch_rows as patch_rows_torch
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.cut_tiles import cut_tiles
from engines.turbomind.ops.patch_rows import patch_rows
from engines.vision.pixels.resample import taps

SIDE, PATCH = 448, 14  # InternViT's
HEIGHT, WIDTH = 3000, 4000  # of a photo of 12 megapixels, which becomes four by three tiles
PATCHES = (SIDE // PATCH) ** 2


def patches(gpu: Gpu) -> Iterator[Row]:
    """Yield the rows of InternViT's first product, of bytes."""
    layout = PatchLayout(patch=PATCH, has_class=True)
    numbers = torch.randn(3, 256, device=gpu.device).bfloat16()
    for tiles in (1, 8, 13):
        size = tiles * (SIDE * SIDE * 3 + (1 + PATCHES) * layout.width * 2)
        pixels = [
            BytePixels(bytes_ISSC=_bytes(gpu, tiles, SIDE, SIDE, 3), numbers_C256=numbers)
            for _ in range(num_sets(size))
        ]
        yield Row(
            op="patch_rows",
            shape=f"{tiles} tiles of {SIDE} pixels",
            us=time_us([partial(patch_rows, gpu, one, layout) for one in pixels]),
            num_bytes=size,
            torch_us=time_us([partial(patch_rows_torch, one, layout) for one in pixels]),
        )


def photos(gpu: Gpu) -> Iterator[Row]:
    """Yield a photo that is resized along both axes and cut into tiles."""
    rows, columns = 3 * SIDE, 4 * SIDE
    out_ISSC = torch.empty(12, SIDE, SIDE, 3, dtype=torch.uint8, device=gpu.device)
    passes = [
        _pass(gpu, WIDTH, columns, is_down=False),
        _pass(gpu, HEIGHT, rows, is_down=True),
    ]
    size = 4 * (HEIGHT * WIDTH + 2 * HEIGHT * columns) + out_ISSC.nbytes
    photos_YX4 = [_bytes(gpu, HEIGHT, WIDTH, 4) for _ in range(num_sets(size))]
    yield Row(
        op="cut_tiles",
        shape=f"{WIDTH} x {HEIGHT} to 4 x 3 tiles",
        us=time_us([partial(cut_tiles, gpu, one, passes, out_ISSC) for one in photos_YX4]),
        num_bytes=size,
        torch_us=time_us(
            [partial(cut_tiles_torch, one, passes, out_ISSC) for one in photos_YX4[:1]], replays=3
        ),
    )


def _bytes(gpu: Gpu, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=gpu.device)


def _pass(gpu: Gpu, length: int, new_length: int, *, is_down: bool) -> AxisPass:
    numbers = taps(length, new_length, "bicubic")
    return AxisPass(
        is_down=is_down,
        first_N=torch.from_numpy(numbers.first_N).to(gpu.device),
        weight_KN=torch.from_numpy(numbers.weight_KN).to(gpu.device),
    )
