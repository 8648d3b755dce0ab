"""What each patch of each tile shows: a second teacher for the vision tower, used in training only.

Labels are uint8 [tiles, grid, grid, 5]: kind (0 nothing, shapes, text), colour (0 none), character (0
none), whether the centre of a shape lies in the patch, and which character of its line it is (0 none).
Letters that are too small to be read in a tile have no character. Labels make the tower see within the
first minute; answers alone take far longer.
"""

from math import ceil, cos, floor, pi, sin

import numpy as np
import numpy.typing as npt

from deployer.pocket_vl.fonts import FontBook, ink_box, line_step
from deployer.pocket_vl.scene import Box, Scene, Text
from deployer.pocket_vl.words import COLOURS, SHAPES

Labels = npt.NDArray[np.uint8]

_KINDS = {kind: number for number, kind in enumerate(SHAPES, 1)}
_COLOURS = {name: number for number, name in enumerate(COLOURS, 1)}
_TEXT = len(SHAPES) + 1
# Classes of the four label planes.
CLASSES = (len(SHAPES) + 2, len(COLOURS) + 1, 96, 2, 17)
_LEAST_PATCHES = 1.2  # an em's height in patches, from which on letters are told apart


def dense_labels(
    scene: Scene, book: FontBook, *, columns: int, rows: int, thumbnail: bool, grid: int
) -> Labels:
    """Return the labels of a picture's tiles in their order, the thumbnail last."""
    whole = _plane(scene, book, columns * grid, rows * grid, grid=grid)
    tiles = (
        whole.reshape(rows, grid, columns, grid, len(CLASSES))
        .swapaxes(1, 2)
        .reshape(-1, grid, grid, len(CLASSES))
    )
    if thumbnail and columns * rows > 1:
        tiles = np.concatenate([tiles, _plane(scene, book, grid, grid, grid=grid)[None]])
    return np.ascontiguousarray(tiles)


def _plane(scene: Scene, book: FontBook, width: int, height: int, *, grid: int) -> Labels:
    """Return labels over the whole canvas, [height, width, 5]; tiles are `grid` cells a side."""
    plane = np.zeros((height, width, len(CLASSES)), np.uint8)
    sx, sy = width / scene.width, height / scene.height
    for shape in scene.shapes:
        area = _cells(shape.box, sx, sy)
        plane[area] = (_KINDS[shape.kind], _COLOURS[shape.colour], 0, 0, 0)
    for shape in scene.shapes:
        y, x = min(height - 1, int(shape.box.cy * sy)), min(width - 1, int(shape.box.cx * sx))
        plane[y, x, 3] = 1
    for text in scene.texts:
        readable = text.size * min(sx, sy) >= _LEAST_PATCHES
        start = (-1, -1)
        for place, character, box in _characters(text, book):
            tile = (int(box.cx * sx) // grid, int(box.cy * sy) // grid)
            start = tile if place == 1 else start
            # A tile that does not hold the line's start cannot tell how far from it a character stands.
            known = min(place, CLASSES[4] - 1) if readable and tile == start else 0
            code = ord(character) - 31 if readable else 0
            plane[_cells(box, sx, sy)] = (_TEXT, _COLOURS[text.colour], code, 0, known)
    return plane


def _cells(box: Box, sx: float, sy: float) -> tuple[slice, slice]:
    """Return the cells whose centres lie in the box, or the one that holds the box's centre."""
    y, x = int(box.cy * sy), int(box.cx * sx)
    y0, y1 = ceil(box.y0 * sy - 0.5), floor(box.y1 * sy - 0.5) + 1
    x0, x1 = ceil(box.x0 * sx - 0.5), floor(box.x1 * sx - 0.5) + 1
    return (
        slice(max(0, min(y0, y)), max(0, y1, y + 1)),
        slice(max(0, min(x0, x)), max(0, x1, x + 1)),
    )


def _characters(text: Text, book: FontBook) -> list[tuple[int, str, Box]]:
    """Return each visible character with its place in the line, from 1, and its extent."""
    font = book.font(text.font, text.size)
    x0, y0, x1, y1 = ink_box(font, text.string)
    lines = text.string.split("\n")
    height = (y1 - y0) - line_step(font) * (len(lines) - 1)
    found = []
    for number, line in enumerate(lines):
        left, _, right, _ = font.getbbox(line)
        start = text.box.x0 + ((x1 - x0) - (right - left)) / 2 - left
        top = text.box.y0 + number * line_step(font)
        ends = [0.0, *(font.getlength(line[: end + 1]) for end in range(len(line)))]
        for position, character in enumerate(line):
            if character != " ":
                box = Box(start + ends[position], top, start + ends[position + 1], top + height)
                found.append((position + 1, character, _turned(box, text)))
    return found


def _turned(box: Box, text: Text) -> Box:
    """Return the box moved with the text's rotation."""
    if text.angle == 0:
        return box
    c, s = cos(text.angle * pi / 180), sin(text.angle * pi / 180)
    dx, dy = box.cx - text.box.cx, box.cy - text.box.cy
    mx, my = text.box.cx + dx * c - dy * s - box.cx, text.box.cy + dx * s + dy * c - box.cy
    return Box(box.x0 + mx, box.y0 + my, box.x1 + mx, box.y1 + my)
