"""Drawing a scene at random: `sample_scene(seed, book, level)` is a pure function of its arguments."""

from random import Random
from typing import Literal

from deployer.pocket_vl import layout, palette
from deployer.pocket_vl.contents import sample_contents
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.scene import Box, Finish, Scene, Text
from deployer.pocket_vl.shape_sampling import sample_shapes
from deployer.pocket_vl.text_sampling import Printing, add_text
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

# easy: small, nearly square, one tile (the first stage of training).
# any: all sizes, some made-up words (the second stage).
# judged: all sizes, words and numbers (the evaluation).
# unseen: judged, made of held-out combinations.
Level = Literal["easy", "any", "judged", "unseen"]

# Smallest em in pixels of a tile: of training pictures and of the evaluation.
_LEAST_EM, _JUDGED_EM = 28.0, 32.0
_LEAST_SHAPE = 0.11  # longer side of a shape, of the canvas's shorter side
_MOST_STRETCH = 1.18  # of one side against the other; more, and a circle might be an oval


def model_pixels(*, image: int = 192, max_tiles: int = 6) -> DynamicTilesSpec:
    """Return the model's preprocessing, as its config.json says it."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return DynamicTilesSpec(
        image=image,
        min_tiles=1,
        max_tiles=max_tiles,
        thumbnail=True,
        mean=mean,
        std=std,
    )


def sample_scene(seed: int, book: FontBook, level: Level) -> Scene:
    """Return the scene of a seed."""
    rng = Random(seed)
    width, height = _canvas(rng, level)
    ground = palette.background(rng)
    contents = sample_contents(rng)
    num_shapes = len(contents.kinds)
    wide = [False] * num_shapes + [True] * contents.num_texts
    order = list(range(len(wide)))
    rng.shuffle(order)
    boxes: list[Box | None] = [None] * len(wide)
    placed = layout.cells(rng, contents.layout, [wide[i] for i in order], width, height)
    for position, box in zip(order, placed, strict=True):
        boxes[position] = box
    shapes = sample_shapes(
        rng,
        contents.kinds,
        boxes[:num_shapes],
        ground,
        least=_LEAST_SHAPE * min(width, height),
        tight=contents.layout == "free",
        held_out=level == "unseen",
    )
    least = _least_em(width, height, level)
    printing = Printing(book=book, least=least, held_out=level == "unseen", made_up=level in ("easy", "any"))
    texts: list[Text] = []
    for cell in boxes[num_shapes:]:
        if cell is not None:
            add_text(rng, printing, cell, ground, shapes, texts)
    return Scene(
        width=width,
        height=height,
        background=ground,
        shapes=tuple(shapes),
        texts=tuple(texts),
        finish=_finish(rng, min(width, height)),
        seed=rng.getrandbits(32),
    )


def _canvas(rng: Random, level: Level) -> tuple[int, int]:
    """Return width and height of a canvas that the tiles do not stretch much."""
    pixels = model_pixels()
    while True:
        width, height = layout.canvas_size(rng, square=level == "easy")
        columns, rows = pixels.plan(width, height).grid
        stretch = columns * height / (rows * width)
        if level == "easy" or max(stretch, 1 / stretch) <= _MOST_STRETCH:
            return width, height


def _least_em(width: int, height: int, level: Level) -> float:
    """Return the smallest em, in canvas pixels, that can be read once the picture is cut into tiles."""
    pixels = model_pixels(max_tiles=1) if level == "easy" else model_pixels()
    columns, rows = pixels.plan(width, height).grid
    scale = min(columns * pixels.image / width, rows * pixels.image / height)
    em = _JUDGED_EM if level in ("judged", "unseen") else _LEAST_EM
    return em / min(scale, 1.5)


def _finish(rng: Random, side: int) -> Finish:
    if rng.random() < 0.62:
        return Finish(noise=0.0, blur=0.0, jpeg=None)
    return Finish(
        noise=rng.uniform(3, 14) if rng.random() < 0.45 else 0.0,
        blur=rng.uniform(0.4, 1.0) * max(0.6, side / 480) if rng.random() < 0.35 else 0.0,
        jpeg=rng.randint(50, 92) if rng.random() < 0.45 else None,
    )
