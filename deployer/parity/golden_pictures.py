"""The pictures of a golden case as an engine gets them, from the reference's own numbers where it left them.

One reader a kind of preprocessing, since references lay their pixels out differently: normalised floats,
tiles before channels, or cut into patches. Numbers of a reference keep a difference in resizing apart from
one in the network; where only the picture files are there, ours are taken.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from deployer.errors import ConfigError
from deployer.parity.golden_folder import GoldenFolder
from deployer.parity.golden_videos import clip_of, clips
from deployer.parity.placement import image_id
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, ImagePlan, PixelSpec
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec

Reader = Callable[[GoldenFolder, str, VisionSpec], list[ImagePixels]]


def pictures(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """Return the pictures or videos of a prompt in its order; none for a text. Raises ConfigError."""
    clip = clip_of(golden, case, vision)
    if clip is not None:
        return clips(golden, case, vision, clip)
    found = READERS[vision.pixels.kind](golden, case, vision)
    return found or drawn(golden, case, vision)


def drawn(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """Return the pictures that meta.json names, through our preprocessing."""
    pixels = asked_pixels(golden, case, vision)
    names = golden.prompt(case).get("images", ())
    opened = [Image.open(_file(golden.folder, name)).convert("RGB") for name in names]
    plans = [pixels.plan(*rgb.size, num_images=len(opened)) for rgb in opened]
    shared = vision.assembly.shared(plans)
    return [
        ImagePixels(arrays=pixels.arrays(rgb, plan), plan=plan, shared=shared)
        for rgb, plan in zip(opened, plans, strict=True)
    ]


def asked_pixels(golden: GoldenFolder, case: str, vision: VisionSpec) -> PixelSpec:
    """Return the preprocessing with the limit of tiles that the reference was given."""
    said = golden.meta.get("preprocessing", {})
    limit = golden.prompt(case).get("hd_num", said.get("max_num"))
    return vision.pixels if limit is None else vision.pixels.changed({"max_tiles": limit})


def fixed_squares(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """One square a picture; of two resolutions, the higher."""
    squares = [square for values in _values(golden, case) for square in values]
    return [
        ImagePixels(arrays=(_channels_last(square[None]),), plan=vision.pixels.plan(*square.shape[-2:]))
        for square in squares
    ]


def tiles(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """Tiles [n, 3, S, S]: a tensor a picture, or those of all pictures below each other."""
    named = [golden.tensors.get(f"pixel_values_{name.partition('_')[0]}") for name in _images(golden, case)]
    parts = [part for part in named if part is not None]
    whole = golden.find("pixel_values", case)
    if not parts and whole is not None:
        rows = vision.num_tokens(_row_of(1)) - _num_texts(vision)
        row_id = image_id(golden, vision)
        runs = [len(list(run)) for token, run in groupby(golden.token_ids(case)) if token == row_id]
        parts = _split(whole, [run // rows for run in runs])
    return [ImagePixels(arrays=(_channels_last(part),), plan=_row_of(len(part))) for part in parts]


def any_resolution(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """The whole picture, then its tiles; padded to the prompt's most tiles where they share a tensor."""
    sizes = golden.find("image_sizes_wh", case)
    if sizes is None:
        heights_first = golden.find("image_sizes", case)
        sizes = None if heights_first is None else heights_first.flip(-1)
    if sizes is None:
        return fixed_squares(golden, case, vision)
    whole = golden.find("pixel_values", case)
    parts = golden.numbered("pixel_values", case) if whole is None else list(whole)
    plans = [vision.pixels.plan(*size) for size in sizes.tolist()]
    return [
        ImagePixels(arrays=(_channels_last(part[: plan.num_tiles]),), plan=plan)
        for part, plan in zip(parts, plans, strict=True)
    ]


def padded_pictures(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """A padded picture in whole tiles; or its tiles behind a view of the whole, which then comes too."""
    sizes = golden.find("image_sizes", case)
    if sizes is None:
        side = vision.pixels.shapes(_row_of(1))[0][0]
        wholes = [_channels_last(part)[0] for part in _values(golden, case)]
        grids = [(whole.shape[1] // side, whole.shape[0] // side) for whole in wholes]
        return [
            ImagePixels(arrays=(whole,), plan=_grid(whole.shape, grid))
            for whole, grid in zip(wholes, grids, strict=True)
        ]
    parts = [part for values in _values(golden, case) for part in values]
    return [_joined(part, size) for part, size in zip(parts, sizes.tolist(), strict=True)]


def native(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """Patches of all pictures below each other, and the grid [time, rows, columns] of each in patches."""
    grids = golden.find("image_grid_thw", case)
    if grids is None:
        return []
    [tower] = vision.towers
    assert isinstance(tower, Qwen2VitSpec), "the one tower of native resolution"
    merge, cell = tower.merge, tower.merge * tower.patch
    cells = [(columns // merge, rows // merge) for _, rows, columns in grids.tolist()]
    counts = [merge**2 * columns * rows for columns, rows in cells]
    parts = _split(golden.read("pixel_values", case), counts)
    return [
        ImagePixels(
            arrays=(part.contiguous().numpy(),),
            plan=ImagePlan(width=cell * columns, height=cell * rows, grid=(columns, rows), num_tiles=1),
        )
        for part, (columns, rows) in zip(parts, cells, strict=True)
    ]


def slices(golden: GoldenFolder, case: str, vision: VisionSpec) -> list[ImagePixels]:
    """Blocks [3, P, P * h * w], each as a picture that knows the prompt's largest block."""
    sizes = golden.find("tgt_sizes", case)
    if sizes is None:
        return []
    largest = max(rows * columns for rows, columns in sizes.tolist())
    shared = (largest,) if vision.assembly.shared([vision.pixels.largest()]) else ()
    blocks = []
    for part, (rows, columns) in zip(golden.numbered("pixel_values", case), sizes.tolist(), strict=True):
        patch = part.shape[1]
        values = part.view(3, patch, rows, columns, patch).permute(2, 1, 3, 4, 0)
        block = values.reshape(1, rows * patch, columns * patch, 3).numpy()
        plan = ImagePlan(width=columns * patch, height=rows * patch, grid=(1, 1), num_tiles=1)
        blocks.append(ImagePixels(arrays=(block,), plan=plan, shared=shared))
    return blocks


READERS: Mapping[str, Reader] = {
    "fixed_square": fixed_squares,
    "dynamic_tiles": tiles,
    "anyres": any_resolution,
    "hd_image": padded_pictures,
    "native": native,
    "slices": slices,
}


def _values(golden: GoldenFolder, case: str) -> list[Tensor]:
    """Return pixels [n, ..., 3, H, W], or one such tensor a picture; of a second resolution if there is one.

    Where pictures are constant on squares of k x k pixels, `pixel_values_div<k>` holds one number a square.
    """
    for name in ("pixel_values_aux", "pixel_values"):
        whole = golden.find(name, case)
        if whole is not None:
            return [whole]
    for name, small in golden.tensors.items():
        shrunk = re.fullmatch(rf"{re.escape(case)}\.pixel_values_div(\d+)", name)
        if shrunk:
            return [small.repeat_interleave(int(shrunk[1]), -1).repeat_interleave(int(shrunk[1]), -2)]
    return golden.numbered("pixel_values", case)


def _split(values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    ends = list(accumulate(lengths, initial=0))
    return [values[start:end] for start, end in pairwise(ends)]


def _joined(crops: Tensor, size: Sequence[int]) -> ImagePixels:
    """Return a picture of its crops [1 + n, 3, S, S], the view of the whole first, zero crops behind."""
    height, width = size
    side = crops.shape[-1]
    rows, columns = height // side, width // side
    cut = crops[1 : 1 + rows * columns].view(rows, columns, 3, side, side)
    whole = cut.permute(0, 3, 1, 4, 2).reshape(height, width, 3)
    view = crops[0].permute(1, 2, 0).contiguous()
    return ImagePixels(arrays=(whole.numpy(), view.numpy()), plan=_grid(whole.shape, (columns, rows)))


def _grid(shape: Sequence[int], grid: tuple[int, int]) -> ImagePlan:
    return ImagePlan(width=shape[1], height=shape[0], grid=grid, num_tiles=1 + grid[0] * grid[1])


def _row_of(num_tiles: int) -> ImagePlan:
    return ImagePlan(width=1, height=1, grid=(num_tiles, 1), num_tiles=num_tiles)


def _num_texts(vision: VisionSpec) -> int:
    return sum(isinstance(part, str) for part in vision.assembly.segments(_row_of(1)))


def _channels_last(tiles_ICSS: Tensor) -> Any:
    return tiles_ICSS.permute(0, 2, 3, 1).float().contiguous().numpy()


def _images(golden: GoldenFolder, case: str) -> Sequence[str]:
    names: Sequence[str] = golden.prompt(case).get("images", ())
    return names


def _file(folder: Path, name: str) -> Path:
    """Return where a picture lies: in the folder, in its `images`, or in `_images` or `images` above it."""
    above = folder.parent
    places = (folder, folder / "images", above / "images", above / "_images", above.parent / "_images")
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ConfigError(
        [f"model.path={folder}: its picture `{name}` is not there; put it into {folder}/images"]
    )
