"""Drawing a scene at random: `sample_scene(seed, book)` is a pure function of its arguments.

With `held_out` the scene is made of combinations that training never shows; without it, of the others only.
"""

from dataclasses import replace
from random import Random

from deployer.pocket_vl import layout, palette
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.scene import Background, Box, Finish, Scene, Shape, Style, Text
from deployer.pocket_vl.strings import printed_string
from deployer.pocket_vl.words import SHAPES, is_held_out

_CLEAN = Finish(noise=0.0, blur=0.0, jpeg=None)
_COMMON = ("circle", "square", "triangle", "star")
# Smallest em of a text against the longer canvas side: below it the letters are gone once tiles are cut.
_LEAST_EM = 0.036
_LEAST_EASY_EM = 0.075
_LEAST_PIXELS = 13.0


def sample_scene(seed: int, book: FontBook, *, held_out: bool = False, easy: bool = False) -> Scene:
    """Return the scene of a seed; `easy`: a small canvas, nearly square, with large letters."""
    rng = Random(seed)
    width, height = layout.canvas_size(rng, square=easy)
    ground = palette.background(rng)
    kinds, num_texts, plan = _contents(rng)
    wobble = rng.uniform(0.015, 0.05) if rng.random() < 0.22 else 0.0
    wide = [False] * len(kinds) + [True] * num_texts
    order = list(range(len(wide)))
    rng.shuffle(order)
    boxes: list[layout.Box | None] = [None] * len(wide)
    for position, box in zip(
        order, layout.cells(rng, plan, [wide[i] for i in order], width, height), strict=True
    ):
        boxes[position] = box
    shapes = _shapes(
        rng, kinds, boxes[: len(kinds)], ground, wobble=wobble, tight=plan == "free", held_out=held_out
    )
    texts: list[Text] = []
    least = max(_LEAST_PIXELS, (_LEAST_EASY_EM if easy else _LEAST_EM) * max(width, height))
    for box in boxes[len(kinds) :]:
        if box is not None:
            _add_text(rng, book, box, ground, shapes, texts, least=least, held_out=held_out)
    return Scene(
        width=width,
        height=height,
        background=ground,
        shapes=tuple(shapes),
        texts=tuple(texts),
        finish=_finish(rng, min(width, height)),
        seed=rng.getrandbits(32),
    )


def _contents(rng: Random) -> tuple[list[str], int, layout.Layout]:
    """Return the kinds of shapes, the number of texts, and how they are laid out."""
    roll = rng.random()
    if roll < 0.015:
        return [], 0, "free"
    if roll < 0.10:
        return [_kind(rng)], 0, "free"
    if roll < 0.36:
        plan = rng.choices(("row", "column", "grid"), (5, 2, 3))[0]
        return (
            [_kind(rng) for _ in range(rng.choices((2, 3, 4, 5), (3, 5, 2, 1))[0])],
            int(rng.random() < 0.2),
            plan,
        )
    if roll < 0.52:
        return _crowd(rng), 0, rng.choices(("free", "grid", "row"), (6, 3, 1))[0]
    if roll < 0.76:
        return (
            [_kind(rng) for _ in range(rng.choices((0, 1, 2, 3), (5, 3, 2, 1))[0])],
            1 + int(rng.random() < 0.12),
            "free",
        )
    return [_kind(rng) for _ in range(rng.randint(2, 6))], int(rng.random() < 0.4), "free"


def _crowd(rng: Random) -> list[str]:
    """One or two kinds several times, for counting."""
    first = _kind(rng)
    kinds = [first] * rng.choices((2, 3, 4, 5, 6, 7), (4, 5, 5, 4, 3, 2))[0]
    if rng.random() < 0.6:
        kinds += [_kind(rng)] * rng.randint(1, max(1, 8 - len(kinds)))
    return kinds[:8]


def _kind(rng: Random) -> str:
    return rng.choice(_COMMON) if rng.random() < 0.45 else rng.choice(SHAPES)


def _shapes(
    rng: Random,
    kinds: list[str],
    boxes: list[Box | None],
    ground: Background,
    *,
    wobble: float,
    tight: bool,
    held_out: bool,
) -> list[Shape]:
    shapes = []
    same = palette.ink(rng, (ground.rgb, ground.second), least=105) if rng.random() < 0.12 else None
    scale = rng.uniform(0.5, 0.98)
    for kind, box in zip(kinds, boxes, strict=True):
        hidden = held_out and rng.random() < 0.7
        paint = palette.shape_ink(rng, kind, ground, held_out=hidden)
        if same is not None and not held_out and not is_held_out("pair", f"{same[0]} {kind}"):
            paint = same
        if box is None or paint is None:
            continue
        fill = rng.uniform(0.85, 1.0) if tight else min(0.98, scale * rng.uniform(0.8, 1.2))
        shapes.append(_shape(rng, kind, paint, box, ground, wobble=wobble, fill=fill))
    return shapes


def _shape(
    rng: Random,
    kind: str,
    paint: tuple[str, palette.Rgb],
    cell: Box,
    ground: Background,
    *,
    wobble: float,
    fill: float,
) -> Shape:
    side = min(cell.width, cell.height) * fill
    ratio = aspect(rng, kind)  # width : height
    w, h = (side, side / ratio) if ratio >= 1 else (side * ratio, side)
    least = min(w, h)
    style: Style = rng.choices(("fill", "both", "outline"), (66, 18, 16))[0]  # type: ignore[assignment]  # one of Style
    if least < 22 and style == "outline":
        style = "fill"
    dark = palette.distance(paint[1], (0, 0, 0)) < 110
    edge = palette.shade(rng, "black") if not dark else (255, 255, 255)
    if style == "both" and dark and palette.distance(ground.rgb, (255, 255, 255)) < 60:
        style = "fill"
    thick = rng.uniform(0.035, 0.11) if style == "outline" else rng.uniform(0.01, 0.05)
    return Shape(
        kind=kind,
        colour=paint[0],
        rgb=paint[1],
        box=layout.within(rng, cell, w, h, centred=rng.random() < 0.6),
        style=style,
        edge=edge,
        stroke=max(2, round(thick * least)),
        angle=_tilt(rng, kind),
        variant=rng.random(),
        wobble=wobble,
    )


def aspect(rng: Random, kind: str) -> float:
    """Return width : height of a shape; a square and a rectangle, a circle and an oval stay far apart."""
    if kind in ("circle", "square", "star"):
        return rng.uniform(0.97, 1.03) if rng.random() < 0.5 else 1.0
    if kind in ("rectangle", "oval"):
        ratio = rng.uniform(1.6, 2.8)
        return ratio if rng.random() < 0.65 else 1 / ratio
    if kind == "diamond":
        return rng.choice((1.0, rng.uniform(0.6, 0.95)))
    return rng.uniform(0.85, 1.2)


def _tilt(rng: Random, kind: str) -> float:
    if rng.random() < 0.6:
        return 0.0
    if kind == "triangle" and rng.random() < 0.3:
        return rng.choice((90.0, 180.0, 270.0, rng.uniform(0, 360)))
    reach = {"diamond": 4.0, "cross": 10.0, "square": 11.0, "star": 30.0}.get(kind, 14.0)
    return rng.uniform(-reach, reach)


def _add_text(
    rng: Random,
    book: FontBook,
    cell: Box,
    ground: Background,
    shapes: list[Shape],
    texts: list[Text],
    *,
    least: float,
    held_out: bool,
) -> None:
    """Print a string in the cell, alone or on a board; nothing where it would be too small to read."""
    board = rng.random() < 0.42
    for _ in range(4):
        string = printed_string(rng, held_out=held_out and rng.random() < 0.8)
        font = rng.randrange(len(book.names))
        em_w, em_h = book.ink(font, string)
        most = min(cell.width * 0.94 / em_w, cell.height * 0.9 / em_h)
        if board:
            most *= 0.72
        if most >= least:
            size = int(least * (most / least) ** rng.random()) if rng.random() < 0.6 else int(most)
            break
    else:
        return
    box = layout.within(rng, cell, em_w * size, em_h * size, centred=board or rng.random() < 0.5)
    angle = rng.uniform(-9, 9) if rng.random() < 0.1 and not board else 0.0
    against = (ground.rgb, ground.second)
    host = None
    if board and (plate := _board(rng, cell, box, ground, size)) is not None:
        host = len(shapes)
        shapes.append(plate)
        against = (plate.rgb,) if plate.style != "outline" else against
    paint = palette.ink(rng, against, least=150)
    if rng.random() < 0.4 and all(palette.distance((0, 0, 0), other) > 150 for other in against):
        paint = ("black", (0, 0, 0))
    if paint is None:
        return
    texts.append(
        Text(
            string=string,
            colour=paint[0],
            rgb=paint[1],
            box=box,
            font=font,
            size=size,
            angle=angle,
            host=host,
        )
    )


def _board(rng: Random, cell: Box, text: Box, ground: Background, size: int) -> Shape | None:
    """Return a shape around the text, inside the cell; None where none fits."""
    pad = size * rng.uniform(0.25, 0.6)
    w, h = text.width + 2 * pad, text.height + 2 * pad
    kind = "rectangle"
    if w < 1.6 * h:
        kind = rng.choice(("square", "circle"))
        w = h = max(w, h) * (1.2 if kind == "circle" else 1.0)
    elif rng.random() < 0.2:
        kind, w, h = "oval", w * 1.25, h * 1.4
        h = min(h, w / 1.6)
    if w > cell.width or h > cell.height:
        return None
    paint = palette.shape_ink(rng, kind, ground, held_out=False)
    if paint is None:
        return None
    box = Box(text.cx - w / 2, text.cy - h / 2, text.cx + w / 2, text.cy + h / 2)
    centred = _shape(rng, kind, paint, box, ground, wobble=0.0, fill=1.0)
    stroke = min(centred.stroke, max(2, round(pad * 0.5)))
    return replace(centred, kind=kind, box=box, angle=0.0, stroke=stroke)


def _finish(rng: Random, side: int) -> Finish:
    if rng.random() < 0.62:
        return _CLEAN
    return Finish(
        noise=rng.uniform(3, 18) if rng.random() < 0.45 else 0.0,
        blur=rng.uniform(0.4, 1.2) * max(0.6, side / 480) if rng.random() < 0.35 else 0.0,
        jpeg=rng.randint(30, 90) if rng.random() < 0.45 else None,
    )
