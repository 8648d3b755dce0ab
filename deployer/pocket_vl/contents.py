"""What a picture holds before anything has a place: kinds of shapes, the number of texts, the layout."""

from dataclasses import dataclass
from random import Random

from deployer.pocket_vl.layout import Layout
from deployer.pocket_vl.words import SHAPES

_COMMON = ("circle", "square", "triangle", "star")
_MOST_SHAPES = 6  # of a picture without texts: what is counted at a glance


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """One picture's list of things."""

    kinds: tuple[str, ...]
    num_texts: int
    layout: Layout


def sample_contents(rng: Random) -> Contents:
    """Return one of the plans below, each with its share of all pictures."""
    plans = (_nothing, _one_shape, _in_order, _crowd, _sign, _lines, _mixed)
    return rng.choices(plans, (1, 7, 26, 13, 22, 13, 18))[0](rng)


def _nothing(_: Random) -> Contents:
    return Contents(kinds=(), num_texts=0, layout="free")


def _one_shape(rng: Random) -> Contents:
    return Contents(kinds=(_kind(rng),), num_texts=0, layout="free")


def _in_order(rng: Random) -> Contents:
    """Shapes in a row, a column or a grid."""
    layouts: tuple[Layout, ...] = ("row", "column", "grid")
    layout = rng.choices(layouts, (5, 2, 3))[0]
    count = rng.choices((2, 3, 4, 5), (3, 5, 2, 1))[0]
    return Contents(kinds=_kinds(rng, count), num_texts=int(rng.random() < 0.2), layout=layout)


def _crowd(rng: Random) -> Contents:
    """One or two kinds several times, for counting."""
    kinds = (_kind(rng),) * rng.choices((2, 3, 4, 5, 6), (4, 5, 5, 4, 3))[0]
    if rng.random() < 0.6:
        kinds += (_kind(rng),) * rng.randint(1, max(1, _MOST_SHAPES - len(kinds)))
    layouts: tuple[Layout, ...] = ("free", "grid", "row")
    return Contents(kinds=kinds[:_MOST_SHAPES], num_texts=0, layout=rng.choices(layouts, (6, 3, 1))[0])


def _sign(rng: Random) -> Contents:
    """A text with a few shapes."""
    count = rng.choices((0, 1, 2, 3), (5, 3, 2, 1))[0]
    return Contents(kinds=_kinds(rng, count), num_texts=1, layout="free")


def _lines(rng: Random) -> Contents:
    """Two or three texts, mostly below each other: each is asked for by its colour or its place."""
    layouts: tuple[Layout, ...] = ("column", "grid", "free")
    layout = rng.choices(layouts, (8, 1, 1))[0]
    return Contents(kinds=_kinds(rng, int(rng.random() < 0.2)), num_texts=rng.randint(2, 3), layout=layout)


def _mixed(rng: Random) -> Contents:
    return Contents(kinds=_kinds(rng, rng.randint(2, 5)), num_texts=int(rng.random() < 0.25), layout="free")


def _kinds(rng: Random, count: int) -> tuple[str, ...]:
    return tuple(_kind(rng) for _ in range(count))


def _kind(rng: Random) -> str:
    return rng.choice(_COMMON) if rng.random() < 0.45 else rng.choice(SHAPES)
