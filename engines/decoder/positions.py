"""Which position each token of a prompt has: one rule a kind of decoder, on ints alone. Torch-free.

A rule sees the prompt's length and its images and returns positions [A, T], one row an axis, and what is
added to a token's index from the end of the prompt on. What a rule may look at (starts, rows, grids) is part
of an image's key or of the tokens before it, so equal prefixes have equal positions and cached keys stay
valid.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engines.schedule.sequence import ImageSlots

Positions = tuple[NDArray[Any] | None, int]  # None: each token's index


def prompt_positions(kind: str, num_tokens: int, images: "Sequence[ImageSlots]") -> Positions:
    """Return positions and the offset of what follows; without images a prompt counts on."""
    return RULES[kind](num_tokens, images) if images else (None, 0)


def sequential(num_tokens: int, images: "Sequence[ImageSlots]") -> Positions:
    """Every token counts on."""
    return None, 0


def mrope(num_tokens: int, images: "Sequence[ImageSlots]") -> Positions:
    """Time, row and column: rows of an image stand on its grid, what follows starts behind the last of all.

    A video is a grid at each of its times. Source: Qwen2-VL, get_rope_index, as of its release; transformers
    5.24 starts what follows behind the longer side alone, however long a video is.
    """
    axes = np.empty((3, num_tokens), dtype=np.int64)
    done, position = 0, 0
    for image in images:
        text = image.start - done
        axes[:, done : image.start] = np.arange(text) + position
        position += text
        columns, rows = image.grid
        times, cells = np.array(image.times), np.arange(columns * rows)
        when, where = np.repeat(times, len(cells)), np.tile(cells, len(times))
        axes[:, image.start : image.end] = position + np.stack([when, where // columns, where % columns])
        position += max(columns, rows, image.times[-1] + 1)
        done = image.end
    axes[:, done:] = np.arange(num_tokens - done) + position
    return axes, position - done


def three_an_image(num_tokens: int, images: "Sequence[ImageSlots]") -> Positions:
    """An image takes three positions: its first row, all rows between, its last.

    Source: CogVLM, build_position_ids; GLM-4V, get_position_ids.
    """
    steps = np.ones(num_tokens, dtype=np.int64)
    for image in images:
        steps[image.start + 2 : image.end - 1] = 0
    positions = np.cumsum(steps) - 1
    return positions[None], int(positions[-1]) + 1 - num_tokens


RULES: dict[str, Callable[[int, "Sequence[ImageSlots]"], Positions]] = {
    "sequential": sequential,
    "mrope": mrope,
    "three_an_image": three_an_image,
}
