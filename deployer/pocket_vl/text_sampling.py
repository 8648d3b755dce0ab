"""Printing strings into a scene at random, alone or on a board (a shape that is drawn around them)."""

from dataclasses import dataclass, replace
from random import Random

from deployer.pocket_vl import layout, palette
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.scene import Background, Box, Shape, Text
from deployer.pocket_vl.shape_sampling import Paint, choose_paint, make_shape
from deployer.pocket_vl.strings import printed_string
from deployer.pocket_vl.words import COLOURS, Rgb

_CONTRAST = 150.0  # least distance of a text's colour from what it is printed on
_BRIGHTNESS = 45.0  # and least difference in brightness, which letters are told apart by


@dataclass(frozen=True, kw_only=True, slots=True)
class Printing:
    """How strings may be set."""

    book: FontBook
    least: float  # smallest em, pixels
    held_out: bool  # of words and numbers that training never shows
    made_up: bool  # strings that are no words among them, which teach to read letter by letter


@dataclass(frozen=True, kw_only=True, slots=True)
class _Setting:
    """A string with its font, before it has a colour."""

    string: str
    font: int
    size: int
    width: float  # of the ink
    height: float


def add_text(
    rng: Random, printing: Printing, cell: Box, ground: Background, shapes: list[Shape], texts: list[Text]
) -> None:
    """Print a string in the cell; nothing where it would be too small to read. A board joins the shapes."""
    board = rng.random() < 0.38
    setting = _setting(rng, printing, cell, share=0.7 if board else 1.0)
    if setting is None:
        return
    box = layout.within(rng, cell, setting.width, setting.height, centred=board or rng.random() < 0.5)
    against: tuple[Rgb, ...] = (ground.rgb, ground.second)
    plate = _board(rng, cell, box, ground, shapes, size=setting.size) if board else None
    if plate is not None and plate.style != "outline":
        against = (plate.rgb,)
    paint = _paint(rng, against, taken={text.colour for text in texts})
    if paint is None:
        return
    if plate is not None:
        shapes.append(plate)
    texts.append(
        Text(
            string=setting.string,
            colour=paint[0],
            rgb=paint[1],
            box=box,
            font=setting.font,
            size=setting.size,
            angle=rng.uniform(-9, 9) if plate is None and rng.random() < 0.1 else 0.0,
            host=None if plate is None else len(shapes) - 1,
        )
    )


def _setting(rng: Random, printing: Printing, cell: Box, *, share: float) -> _Setting | None:
    """Return a string that fits into the cell in a font; None where four tries are all too small."""
    for _ in range(4):
        string = printed_string(
            rng, held_out=printing.held_out and rng.random() < 0.8, made_up=printing.made_up
        )
        font = rng.randrange(len(printing.book.names))
        em_w, em_h = printing.book.ink(font, string)
        most = share * min(cell.width * 0.94 / em_w, cell.height * 0.9 / em_h)
        if most < printing.least:
            continue
        size = most if rng.random() < 0.4 else printing.least * (most / printing.least) ** rng.random()
        return _Setting(
            string=string, font=font, size=int(size), width=em_w * int(size), height=em_h * int(size)
        )
    return None


def _paint(rng: Random, against: tuple[Rgb, ...], *, taken: set[str]) -> Paint | None:
    """Return an ink, black more often than others, one that no other text has if there is any."""
    if "black" not in taken and rng.random() < 0.35:
        black = (0, 0, 0)
        if all(palette.distance(black, other) > _CONTRAST for other in against):
            return "black", black
    free = tuple(name for name in COLOURS if name not in taken)
    return palette.ink(rng, against, least=_CONTRAST, names=free, least_brightness=_BRIGHTNESS)


def _board(
    rng: Random, cell: Box, text: Box, ground: Background, shapes: list[Shape], *, size: int
) -> Shape | None:
    """Return a shape around the text, inside the cell; None where none fits."""
    pad = size * rng.uniform(0.25, 0.6)
    w, h = text.width + 2 * pad, text.height + 2 * pad
    kind = "rectangle"
    if w < 1.8 * h:
        kind = rng.choice(("square", "circle"))
        w = h = max(w, h) * (1.2 if kind == "circle" else 1.0)
    elif rng.random() < 0.2:
        kind, w, h = "oval", w * 1.25, h * 1.4
        h = min(h, w / 1.8)
    if w > cell.width or h > cell.height:
        return None
    paint = choose_paint(rng, kind, ground, shapes, held_out=False)
    if paint is None:
        return None
    box = Box(text.cx - w / 2, text.cy - h / 2, text.cx + w / 2, text.cy + h / 2)
    plate = make_shape(rng, kind, paint, box, ground, wobble=0.0, fill=1.0)
    return replace(plate, box=box, angle=0.0, stroke=min(plate.stroke, max(2, round(pad * 0.5))))
