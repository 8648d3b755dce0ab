"""The goldens of LLaVA and its kin, read as `deploy parity` reads them."""

from family_golden import FIXTURES, FamilyGolden
from torch import Tensor

from deployer.parity.case import Case, read_case
from deployer.parity.golden_folder import GoldenFolder
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels

FOLDERS = {
    path.parent.name: path.parent
    for family in ("deepseek_vl", "llava", "mini_gemini", "yi_vl")
    for path in (FIXTURES / family).glob("*/drawn.json")
}


def case_of(golden: FamilyGolden, tag: str) -> Case:
    """Return a prompt with one id a row, its pictures and what upstream made of them."""
    return read_case(GoldenFolder.open(golden.folder), tag, golden.spec)


def image_slots(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the pictures of a prompt where they stand in `expanded_ids`."""
    return case_of(golden, tag).images


def expanded_ids(golden: FamilyGolden, tag: str) -> list[int]:
    """Return the ids of a prompt with one id a row; what is read at rows does not matter."""
    return list(case_of(golden, tag).token_ids)


def wanted_rows(golden: FamilyGolden, tag: str) -> Tensor:
    """Return upstream's rows of all pictures of a prompt, one below the other."""
    rows = case_of(golden, tag).rows_MH
    assert rows is not None, "these goldens have rows"
    return rows


def pictures_of(golden: FamilyGolden, tag: str) -> list[ImagePixels]:
    """Return the pictures of a prompt as the engine gets them, their numbers normalised already."""
    return [image.pixels for image in image_slots(golden, tag) if image.pixels is not None]
