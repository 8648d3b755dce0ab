"""Choosing colours that a viewer can tell apart."""

from random import Random

from deployer.pocket_vl.scene import Background
from deployer.pocket_vl.words import COLOURS, Rgb

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


def brightness(colour: Rgb) -> float:
    """Return the luma of a colour, 0..255 (ITU-R BT.601 weights)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


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
    rng: Random,
    against: tuple[Rgb, ...],
    *,
    least: float,
    names: tuple[str, ...] = tuple(COLOURS),
    least_brightness: float = 0.0,
) -> tuple[str, Rgb] | None:
    """Return a colour that differs enough from each of `against`; None where 12 tries find none."""
    for _ in range(12 if names else 0):
        name = rng.choice(names)
        rgb = shade(rng, name)
        if all(
            distance(rgb, other) >= least and abs(brightness(rgb) - brightness(other)) >= least_brightness
            for other in against
        ):
            return name, rgb
    return None


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
