"""Where things go: boxes for `n` things on a canvas that do not touch each other."""

from random import Random
from typing import Literal

from deployer.pocket_vl.scene import Box

Layout = Literal["free", "row", "column", "grid"]

_SIZES = (
    ((640, 480), 8),
    ((400, 300), 5),
    ((320, 240), 2),
    ((800, 600), 3),
    ((300, 200), 2),
    ((600, 400), 3),
    ((256, 256), 3),
    ((224, 224), 2),
    ((200, 200), 2),
    ((300, 300), 5),
    ((400, 400), 4),
    ((512, 512), 4),
    ((500, 500), 2),
    ((448, 448), 2),
    ((640, 640), 1),
    ((480, 640), 2),
    ((300, 400), 2),
    ((400, 600), 1),
    ((500, 300), 1),
    ((800, 400), 1),
    ((400, 200), 1),
    ((200, 400), 1),
    ((640, 360), 1),
    ((160, 120), 1),
    ((384, 384), 8),
    ((576, 384), 12),
    ((384, 576), 4),
    ((192, 192), 3),
)


def canvas_size(rng: Random, *, square: bool) -> tuple[int, int]:
    """Return width and height: mostly sizes that people use, else 140 to 800 a side, up to 2.2 : 1.

    `square`: small and nearly square, for the first stage of training.
    """
    if square:
        side = rng.randint(150, 320)
        return side, round(side * rng.choice((1.0, 1.0, rng.uniform(0.85, 1.15))))
    if rng.random() < 0.72:
        return rng.choices([size for size, _ in _SIZES], [weight for _, weight in _SIZES])[0]
    longer = round(140 * (800 / 140) ** rng.random())
    shorter = max(120, round(longer / (2.2 ** rng.random())))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def cells(rng: Random, layout: Layout, wide: list[bool], width: int, height: int) -> list[Box | None]:
    """Return a box for each thing, `wide` ones shaped for text; None where a thing found no room."""
    if layout == "free":
        return _free(rng, wide, width, height)
    count = len(wide)
    columns, rows = {"row": (count, 1), "column": (1, count), "grid": _grid(count, width, height)}[layout]
    places = [(column, row) for row in range(rows) for column in range(columns)]
    if layout == "grid":
        places = sorted(rng.sample(places, count), key=lambda place: (place[1], place[0]))
    side = min(width, height)
    pad_x, pad_y = rng.uniform(0, 0.06) * side, rng.uniform(0, 0.06) * side
    if layout == "row":
        pad_y = rng.uniform(0, 0.3) * height
    if layout == "column":
        pad_x = rng.uniform(0, 0.15 if any(wide) else 0.3) * width
    cell_w, cell_h = (width - 2 * pad_x) / columns, (height - 2 * pad_y) / rows
    inset = 0.04 * min(cell_w, cell_h)
    return [
        Box(
            pad_x + column * cell_w + inset,
            pad_y + row * cell_h + inset,
            pad_x + (column + 1) * cell_w - inset,
            pad_y + (row + 1) * cell_h - inset,
        )
        for column, row in places
    ]


def within(rng: Random, cell: Box, width: float, height: float, *, centred: bool) -> Box:
    """Return a box of the size inside the cell, in its middle or anywhere."""
    x = 0.5 if centred else rng.random()
    y = 0.5 if centred else rng.random()
    x0 = cell.x0 + x * max(0.0, cell.width - width)
    y0 = cell.y0 + y * max(0.0, cell.height - height)
    return Box(x0, y0, x0 + width, y0 + height)


def _grid(count: int, width: int, height: int) -> tuple[int, int]:
    """Return columns and rows for at least `count` cells, near square ones."""
    columns = max(1, round((count * width / height) ** 0.5))
    return columns, -(-count // columns)


def _free(rng: Random, wide: list[bool], width: int, height: int) -> list[Box | None]:
    side = min(width, height)
    crowd = min(1.0, 2.2 / len(wide) ** 0.6) if wide else 1.0
    placed: list[Box] = []
    boxes: list[Box | None] = []
    for is_wide in wide:
        box = None
        for attempt in range(30):
            shrink = crowd * 0.97**attempt
            if is_wide:
                w, h = rng.uniform(0.4, 0.95) * width * shrink, rng.uniform(0.15, 0.45) * height * shrink
            else:
                w = h = max(20.0, side * 0.15 * (4.4 ** rng.random()) * shrink)
            if w >= width - 4 or h >= height - 4:
                continue
            x0, y0 = rng.uniform(2, width - 2 - w), rng.uniform(2, height - 2 - h)
            tried = Box(x0, y0, x0 + w, y0 + h)
            if not any(tried.overlaps(other, 0.012 * side) for other in placed):
                box = tried
                placed.append(box)
                break
        boxes.append(box)
    return boxes
