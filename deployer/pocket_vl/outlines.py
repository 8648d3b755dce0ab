"""Outlines of shapes as polygons in the unit square [-1, 1] x [-1, 1], y downward."""

from math import cos, pi, sin
from random import Random

Point = tuple[float, float]


def outline(kind: str, variant: float) -> list[Point]:
    """Return the corners of a shape; `variant` (0..1) picks its proportions; curves are many short edges."""
    if kind in ("circle", "oval"):
        return _ring(1.0, 1.0, 48, 0.0)
    if kind in ("square", "rectangle"):
        return [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    if kind == "triangle":
        apex = 0.0 if variant < 0.75 else (variant - 0.875) * 8  # from -1, a right triangle, to 1
        return [(apex, -1), (1, 1), (-1, 1)]
    if kind == "diamond":
        return [(0, -1), (1, 0), (0, 1), (-1, 0)]
    if kind == "star":
        return _star(6 if variant > 0.92 else 5, 0.36 + 0.16 * variant)
    if kind == "heart":
        return _heart()
    assert kind == "cross", f"no outline for `{kind}`"
    arm = 0.2 + 0.25 * variant
    return [
        (-arm, -1),
        (arm, -1),
        (arm, -arm),
        (1, -arm),
        (1, arm),
        (arm, arm),
        (arm, 1),
        (-arm, 1),
        (-arm, arm),
        (-1, arm),
        (-1, -arm),
        (-arm, -arm),
    ]


def rotate(points: list[Point], degrees: float) -> list[Point]:
    """Return the points turned clockwise around the origin."""
    if degrees == 0:
        return points
    c, s = cos(degrees * pi / 180), sin(degrees * pi / 180)
    return [(x * c - y * s, x * s + y * c) for x, y in points]


def wobbled(points: list[Point], roughness: float, rng: Random) -> list[Point]:
    """Return the outline as an unsteady hand draws it: edges in pieces, pieces pushed aside smoothly."""
    if roughness == 0:
        return points
    pieces = max(1, round(40 / len(points)))
    drift_x = drift_y = 0.0
    rough: list[Point] = []
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        for step in range(pieces):
            part = step / pieces
            drift_x = 0.75 * drift_x + rng.gauss(0, roughness)
            drift_y = 0.75 * drift_y + rng.gauss(0, roughness)
            rough.append((x0 + (x1 - x0) * part + drift_x, y0 + (y1 - y0) * part + drift_y))
    return rough


def _ring(rx: float, ry: float, count: int, start: float) -> list[Point]:
    return [
        (rx * cos(start + 2 * pi * i / count), ry * sin(start + 2 * pi * i / count)) for i in range(count)
    ]


def _star(tips: int, inner: float) -> list[Point]:
    outer_ring = _ring(1, 1, tips, -pi / 2)
    inner_ring = _ring(inner, inner, tips, -pi / 2 + pi / tips)
    return [point for pair in zip(outer_ring, inner_ring, strict=True) for point in pair]


def _heart() -> list[Point]:
    points = []
    for i in range(40):
        t = 2 * pi * i / 40
        x = sin(t) ** 3
        y = -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16.5 - 0.13
        points.append((x, y))
    return points
