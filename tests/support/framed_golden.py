"""The goldens of CogVLM and GLM-4V: checkpoints unpacked, prompts with one token a row, pictures."""

import hashlib
from pathlib import Path

import numpy as np
from drawn_checkpoint import write_drawn
from family_golden import FIXTURES, FamilyGolden, slots
from PIL import Image
from safetensors.torch import load_file, save_file

from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels, PixelSpec

PICTURES = FIXTURES / "internvl" / "images"


def unpacked(source: Path, folder: Path) -> FamilyGolden:
    """Return the golden over a checkpoint that is written into a folder."""
    golden = FamilyGolden(write_drawn(source, folder))
    suffix = golden.meta.get("stored_in_bfloat16")
    if suffix is not None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file({k: t.bfloat16() if k.endswith(suffix) else t for k, t in tensors.items()}, path)
    return golden


def picture(pixels: PixelSpec, file: str) -> ImagePixels:
    """Return a picture as the front end sends it."""
    rgb = Image.open(PICTURES / file).convert("RGB")
    plan = pixels.plan(*rgb.size)
    return ImagePixels(arrays=pixels.arrays(rgb, plan), plan=plan)


def prompt(golden: FamilyGolden, tag: str) -> tuple[list[int], tuple[ImageSlots, ...]]:
    """Return the ids of a prompt, one a row, and its picture."""
    ids, vision = golden.ids(tag), golden.spec.vision
    if tag == "text":
        return ids, ()
    assert vision is not None and vision.image_token_id is not None
    said = golden.meta["prompts"][tag]
    sent = picture(vision.pixels, said["images"][0])
    first, end = said.get("image_positions") or (said["boi_index"], said["boi_index"] + 3)
    replaced, rows = end - first, vision.num_tokens(sent.plan)
    expanded = [*ids[:first], *[vision.image_token_id] * rows, *ids[first + replaced :]]
    return expanded, slots([first], [sent], golden.spec)


def sha256_of_rounded(pixels: PixelSpec, file: str) -> str:
    """Return the hash of a preprocessed picture, normalised, as upstream's is given."""
    (array,) = picture(pixels, file).arrays
    numbers = (array[0].astype(np.float32) / 255 - np.float32(pixels.mean)) / np.float32(pixels.std)
    rounded = np.round(numbers.transpose(2, 0, 1).astype(np.float64), 4).astype(np.float32)
    return hashlib.sha256(rounded.tobytes()).hexdigest()
