"""What is true of a scene, as pure functions. Where a viewer could argue, the answer is `UNCLEAR` and
nobody asks.

Directions: `left` means wholly left of the thing; of several, the nearest in line (|along| + 2 |across|)
by a clear margin.
"""

from typing import Final, Literal

from deployer.pocket_vl.scene import Item, Scene, Shape

Direction = Literal["left", "right", "above", "below"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("left", "right", "above", "below")


class Unclear:
    """The type of `UNCLEAR`."""


UNCLEAR: Final = Unclear()

_CLEAR_MARGIN = 1.5
_REGION_MARGIN = 0.06  # of the canvas side; nearer to a border of two regions nobody asks
_SIZE_MARGIN = 1.5  # of the longer sides


def matching(scene: Scene, *, kind: str | None = None, colour: str | None = None) -> tuple[Shape, ...]:
    """Return the shapes of a kind and colour, in reading order from the left."""
    found = [s for s in scene.shapes if kind in (None, s.kind) and colour in (None, s.colour)]
    return tuple(sorted(found, key=lambda shape: (shape.box.cx, shape.box.cy)))


def gaps(item: Item, other: Item, direction: Direction) -> tuple[float, float, float]:
    """Return how far `other` lies beyond `item`: between the boxes, between the centres, and across."""
    a, b = item.box, other.box
    if direction == "left":
        return a.x0 - b.x1, a.cx - b.cx, abs(a.cy - b.cy)
    if direction == "right":
        return b.x0 - a.x1, b.cx - a.cx, abs(a.cy - b.cy)
    if direction == "above":
        return a.y0 - b.y1, a.cy - b.cy, abs(a.cx - b.cx)
    return b.y0 - a.y1, b.cy - a.cy, abs(a.cx - b.cx)


def neighbour(scene: Scene, item: Item, direction: Direction) -> Item | Unclear | None:
    """Return what lies in a direction of an item, None where nothing does."""
    slack = 0.01 * min(scene.width, scene.height)
    reach: list[tuple[float, Item]] = []
    for other in scene.items:
        if other == item:
            continue
        between, along, across = gaps(item, other, direction)
        if between >= -slack:
            reach.append((along + 2 * across, other))
        elif along > slack:  # partly beside it, so neither there nor not there
            half = item.box.width if direction in ("left", "right") else item.box.height
            if along > 0.25 * half:
                return UNCLEAR
    if not reach:
        return None
    reach.sort(key=lambda pair: pair[0])
    if len(reach) > 1 and reach[1][0] < _CLEAR_MARGIN * reach[0][0]:
        return UNCLEAR
    nearest = reach[0][1]
    _, along, across = gaps(item, nearest, direction)
    # More across than along: a viewer would name the other direction first.
    return UNCLEAR if across > along else nearest


def lies(scene: Scene, item: Item, other: Item, direction: Direction) -> bool | Unclear:
    """Tell whether `item` lies in a direction of `other`."""
    between, along, across = gaps(other, item, direction)
    if between >= 0 and across <= 1.5 * along:
        return True
    return False if along <= 0 and abs(along) + across > 0.05 * min(scene.width, scene.height) else UNCLEAR


def between(scene: Scene, first: Item, second: Item) -> Item | Unclear | None:
    """Return the one thing between two others; UNCLEAR where none or several could be meant."""
    ax, ay = first.box.cx, first.box.cy
    dx, dy = second.box.cx - ax, second.box.cy - ay
    length = max(1e-6, (dx * dx + dy * dy) ** 0.5)
    inside = []
    for other in scene.items:
        if other in (first, second):
            continue
        px, py = other.box.cx - ax, other.box.cy - ay
        along, across = (px * dx + py * dy) / length**2, abs(px * dy - py * dx) / length**2
        if 0.15 < along < 0.85 and across < 0.22:
            if not 0.25 < along < 0.75 or across > 0.15:
                return UNCLEAR
            inside.append(other)
        elif 0.05 < along < 0.95 and across < 0.4:
            return UNCLEAR
    return inside[0] if len(inside) == 1 else UNCLEAR


def region(scene: Scene, item: Item) -> str | Unclear:
    """Return where on the canvas an item's centre lies: `top left`, `top`, ..., `bottom right`."""
    across = _third(item.box.cx / scene.width, ("left", "", "right"))
    down = _third(item.box.cy / scene.height, ("top", "", "bottom"))
    if isinstance(across, Unclear) or isinstance(down, Unclear):
        return UNCLEAR
    return " ".join(part for part in (down, across) if part) or "middle"


def extreme(scene: Scene, *, largest: bool) -> Shape | Unclear:
    """Return the largest or smallest shape by its longer side, where that is plain to see."""
    if len(scene.shapes) < 2:
        return UNCLEAR
    ranked = sorted(scene.shapes, key=_longer_side, reverse=largest)
    ratio = _longer_side(ranked[0]) / _longer_side(ranked[1])
    area = _area(ranked[0]) / _area(ranked[1])
    clear = min(ratio, area) > _SIZE_MARGIN if largest else max(ratio, area) < 1 / _SIZE_MARGIN
    return ranked[0] if clear else UNCLEAR


def _third(part: float, names: tuple[str, str, str]) -> str | Unclear:
    if any(abs(part - border) < _REGION_MARGIN for border in (1 / 3, 2 / 3)):
        return UNCLEAR
    return names[0] if part < 1 / 3 else names[1] if part < 2 / 3 else names[2]


def _longer_side(shape: Shape) -> float:
    return max(shape.box.width, shape.box.height)


def _area(shape: Shape) -> float:
    return shape.box.width * shape.box.height
