"""The goldens of LLaVA and its kin: pictures in the layouts in which upstream was given them."""

from collections.abc import Iterator

import torch
from family_golden import FIXTURES, FamilyGolden, slots
from torch import Tensor

from engines.sequence import ImageSlots
from engines.spec import ModelSpec
from engines.vision.parts import ImagePixels

FOLDERS = {
    path.parent.name: path.parent
    for family in ("deepseek_vl", "llava", "mini_gemini", "yi_vl")
    for path in (FIXTURES / family).glob("*/packed.npz")
}
PLACEHOLDER = -200  # in upstream's prompts, one a picture


def image_slots(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the pictures of a prompt where they stand in `expanded_ids`."""
    pictures = pictures_of(golden, tag)
    counts = row_counts(golden.spec, pictures)
    ids = golden.ids(tag)
    starts = [index for index, token in enumerate(ids) if token == PLACEHOLDER]
    if starts:
        starts = [start + sum(counts[:i]) - i for i, start in enumerate(starts)]
    else:
        image_id = golden.spec.vision.image_token_id if golden.spec.vision else None
        places = [
            index for index, token in enumerate(ids) if token == golden.meta.get("image_token_id", image_id)
        ]
        assert len(places) == sum(counts), (len(places), counts)
        starts = [places[sum(counts[:i])] for i in range(len(counts))]
    return slots(starts, pictures, golden.spec)


def expanded_ids(golden: FamilyGolden, tag: str) -> list[int]:
    """Return the ids of a prompt with one id a row; what is read at rows does not matter."""
    counts = iter(row_counts(golden.spec, pictures_of(golden, tag)))
    ids: list[int] = []
    for token in golden.ids(tag):
        ids += [0] * next(counts) if token == PLACEHOLDER else [token]
    return ids


def row_counts(spec: ModelSpec, pictures: list[ImagePixels]) -> list[int]:
    """Return the rows of each picture."""
    assert spec.vision is not None
    segments = [spec.vision.assembly.segments(picture.plan) for picture in pictures]
    return [sum(part for part in parts if isinstance(part, int)) for parts in segments]


def wanted_rows(golden: FamilyGolden, tag: str) -> Tensor:
    """Return upstream's rows of all pictures of a prompt, one below the other."""
    whole = golden.tensors.get(f"{tag}.image_features", golden.tensors.get(f"{tag}.image_features_every_8th"))
    if whole is not None:
        return whole.reshape(-1, whole.shape[-1])
    return torch.cat(
        [golden.tensors[f"{tag}.image_features.{i}"] for i in range(len(pictures_of(golden, tag)))]
    )


def pictures_of(golden: FamilyGolden, tag: str) -> list[ImagePixels]:
    """Return the pictures of a prompt as the engine gets them, their numbers normalised already."""
    pixels = golden.spec.vision.pixels if golden.spec.vision else None
    assert pixels is not None
    pictures = []
    for tiles, (width, height) in _tiles(golden, tag):
        plan = pixels.plan(width, height)
        array = tiles[: plan.num_tiles].permute(0, 2, 3, 1).contiguous().numpy()
        pictures.append(ImagePixels(arrays=(array,), plan=plan))
    return pictures


def _tiles(golden: FamilyGolden, tag: str) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Yield the tiles [I, C, S, S] of each picture and its width and height."""
    tensors = golden.tensors
    for name in ("pixel_values_aux", "pixel_values"):
        values = tensors.get(f"{tag}.{name}")
        if values is None:
            continue
        sizes = tensors.get(f"{tag}.image_sizes")
        for index, picture in enumerate(values):
            size = (
                (picture.shape[-1], picture.shape[-1])
                if sizes is None
                else tuple(sizes[index].flip(0).tolist())
            )
            yield (picture if picture.dim() == 4 else picture.unsqueeze(0)), size
        return
    if f"{tag}.pixel_values_div5" in tensors:
        for picture in tensors[f"{tag}.pixel_values_div5"]:
            whole = picture.repeat_interleave(5, -1).repeat_interleave(5, -2)
            yield whole.unsqueeze(0), (whole.shape[-1], whole.shape[-1])
        return
    index = 0
    while (tiles := tensors.get(f"{tag}.pixel_values.{index}")) is not None:
        yield tiles, tuple(tensors[f"{tag}.image_sizes_wh"][index].tolist())
        index += 1
