"""A sheet of generated pictures: `python -m deployer.pocket_vl.contact_sheet FILE [SEED]`."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from PIL import Image

from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.painter import paint
from deployer.pocket_vl.sampling import sample_scene

COLUMNS, ROWS = 8, 5
CELL = (150, 120)  # pixels
GAP = 4


def contact_sheet(first_seed: int, book: FontBook) -> Image.Image:
    """Return pictures of consecutive seeds, scaled down into cells of one size."""
    width, height = CELL
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, ROWS * (height + GAP) + GAP), (90, 90, 90))
    for number in range(COLUMNS * ROWS):
        picture = paint(sample_scene(first_seed + number, book, "judged"), book)
        picture.thumbnail(CELL, Image.Resampling.LANCZOS)
        row, column = divmod(number, COLUMNS)
        x = GAP + column * (width + GAP) + (width - picture.width) // 2
        y = GAP + row * (height + GAP) + (height - picture.height) // 2
        sheet.paste(picture, (x, y))
    return sheet


def main(words: Sequence[str]) -> None:
    """Draw and save it."""
    parser = ArgumentParser(prog="python -m deployer.pocket_vl.contact_sheet")
    parser.add_argument("file", metavar="FILE", help="picture to write")
    parser.add_argument("seed", metavar="SEED", type=int, nargs="?", default=0, help="of the first picture")
    asked = parser.parse_args(words)
    contact_sheet(asked.seed, FontBook.system()).save(asked.file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
