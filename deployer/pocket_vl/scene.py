"""A picture as data: what the painter draws and what questions are asked about. Frozen values, canvas
pixels, no drawing.

`sampling.py` draws a `Scene` from a seeded generator, `painter.py` turns it into an RGB picture,
`facts.py` answers questions about it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from deployer.pocket_vl.words import Rgb

Style = Literal["fill", "outline", "both"]


class Box(NamedTuple):
    """An axis-aligned rectangle in canvas pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def cx(self) -> float:
        """The centre's x."""
        return (self.x0 + self.x1) / 2

    @property
    def cy(self) -> float:
        """The centre's y."""
        return (self.y0 + self.y1) / 2

    @property
    def width(self) -> float:
        """x1 - x0."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """y1 - y0."""
        return self.y1 - self.y0

    def overlaps(self, other: "Box", gap: float) -> bool:
        """Tell whether the boxes come closer than `gap` on both axes."""
        return (
            self.x0 < other.x1 + gap
            and other.x0 < self.x1 + gap
            and self.y0 < other.y1 + gap
            and other.y0 < self.y1 + gap
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One drawn shape; `box` is its extent before rotation."""

    kind: str  # word of words.SHAPES
    colour: str  # word of words.COLOURS; of the outline where only that is drawn
    rgb: Rgb
    box: Box
    style: Style
    edge: Rgb  # outline of style `both`
    stroke: int  # outline width, pixels
    angle: float  # degrees, clockwise
    variant: float  # 0..1, picks proportions inside the kind
    wobble: float  # 0: drawn with a ruler; else roughness relative to the size


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One printed string; a line feed stands for a line break."""

    string: str
    colour: str
    rgb: Rgb
    box: Box  # of the ink, before rotation
    font: int  # index into the font book
    size: int  # em, pixels
    angle: float  # degrees, clockwise
    host: int | None  # index of the shape it is printed on

    @property
    def spoken(self) -> str:
        """The string as an answer says it."""
        return self.string.replace("\n", " ")

    @property
    def noun(self) -> str:
        """What kind of text it is: `number`, `word` or `text`."""
        if self.string.isdigit():
            return "number"
        return "word" if self.string.isalpha() else "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """What lies behind everything."""

    kind: Literal["plain", "gradient", "speckle", "ruled", "clouds"]
    colour: str | None  # its name where it has one
    rgb: Rgb
    second: Rgb  # other end of a gradient, ink of lines, colour of clouds


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """What happens to the picture after it is drawn."""

    noise: float  # standard deviation of added noise, 0..255
    blur: float  # radius, pixels
    jpeg: int | None  # quality


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A thing one can ask about: a shape, or a text that stands alone."""

    shape: Shape | None
    text: Text | None

    @property
    def box(self) -> Box:
        """Its extent."""
        owner = self.shape or self.text
        assert owner is not None, "an item is a shape or a text"
        return owner.box


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One picture."""

    width: int
    height: int
    background: Background
    shapes: tuple[Shape, ...]
    texts: tuple[Text, ...]
    finish: Finish
    seed: int  # of the painter's own randomness: noise, wobble

    @property
    def items(self) -> tuple[Item, ...]:
        """Shapes, then texts that are not printed on one."""
        shapes = tuple(Item(shape=shape, text=None) for shape in self.shapes)
        return shapes + tuple(Item(shape=None, text=text) for text in self.texts if text.host is None)
