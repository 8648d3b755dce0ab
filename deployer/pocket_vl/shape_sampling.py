"""Drawing the shapes of a scene at random.

A pair of coloured shapes (`a red circle` beside `a blue star`) may be held out: training pictures never
hold both.
"""

from collections.abc import Sequence
from random import Random

from deployer.pocket_vl import layout, palette
from deployer.pocket_vl.scene import Background, Box, Shape, Style
from deployer.pocket_vl.words import COLOURS, Rgb, is_held_out

Paint = tuple[str, Rgb]

_CONTRAST = 115.0  # least distance of a shape's colour from the background's


def sample_shapes(
    rng: Random,
    kinds: Sequence[str],
    boxes: Sequence[Box | None],
    ground: Background,
    *,
    least: float,
    tight: bool,
    held_out: bool,
) -> list[Shape]:
    """Return shapes in boxes, which they fill if `tight`; `least` is their smallest longer side, pixels.

    A box that is smaller or has no fitting colour stays empty.
    """
    wobble = rng.uniform(0.015, 0.05) if rng.random() < 0.22 else 0.0
    same = palette.ink(rng, (ground.rgb, ground.second), least=_CONTRAST) if rng.random() < 0.12 else None
    scale = rng.uniform(0.5, 0.98)
    shapes: list[Shape] = []
    for kind, box in zip(kinds, boxes, strict=True):
        if same is not None and fits(shapes, same[0], kind, held_out=False):
            paint: Paint | None = same
        else:
            paint = choose_paint(rng, kind, ground, shapes, held_out=held_out)
        if box is None or paint is None or min(box.width, box.height) < least:
            continue
        fill = rng.uniform(0.85, 1.0) if tight else min(0.98, scale * rng.uniform(0.8, 1.2))
        fill = max(fill, least / min(box.width, box.height))
        shapes.append(make_shape(rng, kind, paint, box, ground, wobble=wobble, fill=fill))
    return shapes


def choose_paint(
    rng: Random, kind: str, ground: Background, others: Sequence[Shape], *, held_out: bool
) -> Paint | None:
    """Return a colour that stands out and makes no held-out pair with the others, or just such a one."""
    names = [name for name in COLOURS if name != ground.colour]
    fitting = tuple(name for name in names if fits(others, name, kind, held_out=held_out))
    if not fitting and held_out:
        fitting = tuple(names)
    return palette.ink(rng, (ground.rgb, ground.second), least=_CONTRAST, names=fitting) if fitting else None


def fits(others: Sequence[Shape], colour: str, kind: str, *, held_out: bool) -> bool:
    """Tell whether some pair with the others is held out, or with `held_out=False`, that none is."""
    mine = f"{colour} {kind}"
    pairs = ("+".join(sorted((mine, f"{other.colour} {other.kind}"))) for other in others)
    found = any(is_held_out("pair", pair) for pair in pairs if pair != f"{mine}+{mine}")
    return found == held_out


def make_shape(
    rng: Random, kind: str, paint: Paint, cell: Box, ground: Background, *, wobble: float, fill: float
) -> Shape:
    """Return a shape that takes `fill` of its cell."""
    side = min(cell.width, cell.height) * fill
    ratio = aspect(rng, kind)
    w, h = (side, side / ratio) if ratio >= 1 else (side * ratio, side)
    dark = palette.distance(paint[1], (0, 0, 0)) < 110
    style = _style(rng, min(w, h), dark=dark, white_ground=palette.distance(ground.rgb, (255, 255, 255)) < 60)
    thick = rng.uniform(0.06, 0.13) if style == "outline" else rng.uniform(0.01, 0.05)
    return Shape(
        kind=kind,
        colour=paint[0],
        rgb=paint[1],
        box=layout.within(rng, cell, w, h, centred=rng.random() < 0.6),
        style=style,
        edge=(255, 255, 255) if dark else palette.shade(rng, "black"),
        stroke=max(2, round(thick * min(w, h))),
        angle=_tilt(rng, kind),
        variant=rng.random(),
        wobble=wobble,
    )


def aspect(rng: Random, kind: str) -> float:
    """Return width : height of a shape; a square and a rectangle, a circle and an oval stay far apart."""
    if kind in ("circle", "square", "star"):
        return rng.uniform(0.97, 1.03) if rng.random() < 0.5 else 1.0
    if kind in ("rectangle", "oval"):
        ratio = rng.uniform(1.8, 2.8)
        return ratio if rng.random() < 0.65 else 1 / ratio
    if kind == "diamond":
        return rng.choice((1.0, rng.uniform(0.6, 0.95)))
    return rng.uniform(0.85, 1.2)


def _style(rng: Random, side: float, *, dark: bool, white_ground: bool) -> Style:
    styles: tuple[Style, ...] = ("fill", "both", "outline")
    style = rng.choices(styles, (70, 17, 13))[0]
    if (side < 36 and style == "outline") or (style == "both" and dark and white_ground):
        return "fill"
    return style


def _tilt(rng: Random, kind: str) -> float:
    """Return a rotation that leaves the kind what it is."""
    if rng.random() < 0.6:
        return 0.0
    if kind == "triangle" and rng.random() < 0.3:
        return rng.choice((90.0, 180.0, 270.0, rng.uniform(0, 360)))
    reach = {"diamond": 4.0, "cross": 10.0, "square": 11.0, "star": 30.0}.get(kind, 14.0)
    return rng.uniform(-reach, reach)
