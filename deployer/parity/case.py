"""One golden case as the engine gets it, and what must come out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deployer.parity.golden_folder import GoldenFolder
from deployer.parity.golden_pictures import drawn, pictures
from deployer.parity.placement import place
from engines.schedule.sequence import ImageSlots
from engines.spec import ModelSpec, VisionSpec
from engines.vision.parts import ImagePixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A prompt with its pictures, and the reference's results."""

    name: str
    token_ids: tuple[int, ...]  # one a row of a picture
    images: tuple[ImageSlots, ...]
    logits_RV: Tensor
    logit_positions: tuple[int, ...]  # of the logits, counted from the prompt's end
    greedy: tuple[int, ...]
    rows_MH: Tensor | None  # image rows of all pictures
    row_step: int  # every how manieth of them the reference kept
    pixels: tuple[tuple[NDArray[Any], NDArray[Any]], ...]  # of a picture: our numbers, the reference's


def read_case(golden: GoldenFolder, name: str, spec: ModelSpec) -> Case:
    """Read one case. Raises ConfigError where the folder does not say enough."""
    images: tuple[ImageSlots, ...] = ()
    token_ids = golden.token_ids(name)
    if spec.vision is not None:
        given = pictures(golden, name, spec.vision)
        if given:
            counts = [_num_rows(spec.vision, picture) for picture in given]
            token_ids, starts = place(golden, name, spec.vision, counts)
            images = tuple(
                ImageSlots(key=_key(picture), start=start, num_tokens=count, pixels=picture)
                for picture, start, count in zip(given, starts, counts, strict=True)
            )
    rows = golden.rows(name) if images else None
    return Case(
        name=name,
        token_ids=tuple(token_ids),
        images=images,
        logits_RV=golden.logits(name),
        logit_positions=tuple(golden.logit_positions(name)),
        greedy=tuple(golden.greedy(name)),
        rows_MH=None if rows is None else rows[0],
        row_step=1 if rows is None else rows[1],
        pixels=() if spec.vision is None else tuple(_pixels(golden, name, spec.vision, images)),
    )


def _pixels(
    golden: GoldenFolder, case: str, vision: VisionSpec, images: Sequence[ImageSlots]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield ours and the reference's numbers of each picture of which both are there."""
    ours = drawn(golden, case, vision) if images else []
    for mine, image in zip(ours, images, strict=False):
        assert image.pixels is not None, "a golden picture has pixels"
        theirs = np.asarray(image.pixels.arrays[0])
        if theirs.dtype != np.uint8:
            mean, std = (np.array(of, np.float32) for of in (vision.pixels.mean, vision.pixels.std))
            yield (np.asarray(mine.arrays[0], np.float32) / 255 - mean) / std, theirs


def _num_rows(vision: VisionSpec, picture: ImagePixels) -> int:
    return sum(part for part in vision.assembly.segments(picture.plan) if isinstance(part, int))


def _key(picture: ImagePixels) -> bytes:
    digest = blake2b(repr((picture.plan, picture.shared)).encode(), digest_size=16)
    for array in picture.arrays:
        digest.update(np.asarray(array).tobytes())
    return digest.digest()
