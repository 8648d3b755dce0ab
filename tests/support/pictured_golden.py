"""Goldens whose pictures lie as PNGs in tests/fixtures; `meta.json` says which, and their tile limit."""

import torch
from family_golden import FIXTURES, FamilyGolden, Session, check, slots
from PIL import Image

from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels, PixelSpec


def picture(golden: FamilyGolden, name: str) -> Image.Image:
    """Return one of the pictures that upstream was given."""
    own = golden.folder / name
    return Image.open(own if own.exists() else FIXTURES / "internvl" / "images" / name).convert("RGB")


def prepared(pixels: PixelSpec, rgb: Image.Image) -> ImagePixels:
    """Return a picture as the engine gets it."""
    plan = pixels.plan(*rgb.size)
    return ImagePixels(arrays=pixels.arrays(rgb, plan), plan=plan)


def images(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the pictures of a prompt."""
    asked = golden.meta["prompts"].get(tag)
    if asked is None:
        return ()
    assert golden.spec.vision is not None
    pixels = golden.spec.vision.pixels
    if "hd_num" in asked:
        pixels = pixels.changed({"max_tiles": asked["hd_num"]})
    pictures = [prepared(pixels, picture(golden, name)) for name in asked["images"]]
    return slots(golden.tensors[f"{tag}.starts"].tolist(), pictures, golden.spec)


def check_against_upstream(golden: FamilyGolden, tag: str, *, chunk: int, tolerance: float) -> None:
    """Hold image rows, logits and greedy tokens of a prompt to upstream's."""
    session, placed = Session(golden.network()), images(golden, tag)
    if placed:
        rows = torch.cat(list(session.features(placed).values()))
        torch.testing.assert_close(rows, golden.tensors[f"{tag}.image_features"], atol=tolerance, rtol=0)
    check(golden, session, tag, placed, chunk=chunk, tolerance=tolerance)
