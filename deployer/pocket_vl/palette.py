"""Choosing colours that a viewer can tell apart."""

from random import Random

from deployer.pocket_vl.scene import Background
from deployer.pocket_vl.words import COLOURS, Rgb, is_held_out

_JITTER = 8
_PLAIN_NAMED = (
    "white",
    "black",
    "gray",
    "yellow",
    "green",
    "blue",
    "cyan",
    "pink",
    "orange",
    "red",
    "purple",
    "brown",
)


def distance(first: Rgb, second: Rgb) -> float:
    """Return the Euclidean distance of two colours."""
    return float(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5)


def shade(rng: Random, name: str) -> Rgb:
    """Return an RGB value that people call `name`."""
    anchor = rng.choice(COLOURS[name])
    if rng.random() < 0.4:
        return anchor
    red, green, blue = (min(255, max(0, part + rng.randint(-_JITTER, _JITTER))) for part in anchor)
    if name in ("black", "gray", "white"):
        return (red, red, red)
    return (red, green, blue)


def ink(
    rng: Random, against: tuple[Rgb, ...], *, least: float, names: tuple[str, ...] = tuple(COLOURS)
) -> tuple[str, Rgb] | None:
    """Return a colour at least `least` away from each of `against`; None where no try finds one."""
    for _ in range(12):
        name = rng.choice(names)
        rgb = shade(rng, name)
        if all(distance(rgb, other) >= least for other in against):
            return name, rgb
    return None


def shape_ink(rng: Random, kind: str, background: Background, *, held_out: bool) -> tuple[str, Rgb] | None:
    """Return a colour for a shape; pairs of colour and kind that are held out only where `held_out` asks for them."""
    names = tuple(
        name
        for name in COLOURS
        if name != background.colour and is_held_out("pair", f"{name} {kind}") == held_out
    )
    if not names:
        return None
    return ink(rng, (background.rgb, background.second), least=105, names=names)


def background(rng: Random) -> Background:
    """Return a background: half of them plain white, as drawing programs start."""
    roll = rng.random()
    if roll < 0.50:
        return Background(kind="plain", colour="white", rgb=(255, 255, 255), second=(255, 255, 255))
    if roll < 0.68:
        name = rng.choice(_PLAIN_NAMED)
        rgb = shade(rng, name)
        return Background(kind="plain", colour=name, rgb=rgb, second=rgb)
    base = pastel(rng) if rng.random() < 0.75 else _dim(rng)
    if roll < 0.78:
        return Background(kind="plain", colour=None, rgb=base, second=base)
    second = _near(rng, base, 45)
    kinds = ("gradient", "speckle", "ruled", "clouds")
    kind = rng.choices(kinds, (30, 25, 25, 20))[0]
    return Background(kind=kind, colour=None, rgb=base, second=second)  # type: ignore[arg-type]  # one of Background.kind


def pastel(rng: Random) -> Rgb:
    """Return a light, weak colour that has no name here."""
    return (rng.randint(205, 255), rng.randint(205, 255), rng.randint(205, 255))


def _dim(rng: Random) -> Rgb:
    return (rng.randint(15, 75), rng.randint(15, 75), rng.randint(15, 75))


def _near(rng: Random, rgb: Rgb, reach: int) -> Rgb:
    red, green, blue = (min(255, max(0, part + rng.randint(-reach, reach))) for part in rgb)
    return (red, green, blue)
