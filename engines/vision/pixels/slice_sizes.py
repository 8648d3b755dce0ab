"""The grid into which a picture is sliced and the sizes of its blocks: arithmetic. Imports nothing heavy.

Source: MiniCPM-Llama3-V-2.5, image_processing_minicpmv.py.
"""

from math import ceil, log, sqrt

from engines.vision.parts import ImagePlan

Size = tuple[int, int]  # width, height


def choose_slices(width: int, height: int, *, side: int, max_slices: int) -> tuple[int, int] | None:
    """Return columns and rows of slices; None: the picture stays whole.

    Grids of about as many slices as the picture has squares of `side` pixels compete, the one of the nearest
    aspect ratio wins, the first of several.
    """
    multiple = min(ceil(width * height / side**2), max_slices)
    if multiple <= 1:
        return None
    counts = [count for count in (multiple - 1, multiple, multiple + 1) if 1 < count <= max_slices]
    grids = [
        (columns, count // columns)
        for count in counts
        for columns in range(1, count + 1)
        if count % columns == 0
    ]
    return min(grids, key=lambda grid: abs(log(width / height) - log(grid[0] / grid[1])))


def source_size(plan: ImagePlan, *, side: int, patch: int) -> Size:
    """Return the size of the whole picture as one block; only one that is not sliced is enlarged."""
    return _fitted(plan.width, plan.height, side=side, patch=patch, may_enlarge=plan.num_tiles == 1)


def slice_size(plan: ImagePlan, *, side: int, patch: int) -> Size:
    """Return the size of each slice."""
    columns, rows = plan.grid
    width, height = max(round(plan.width / columns), 1), max(round(plan.height / rows), 1)
    return _fitted(width, height, side=side, patch=patch, may_enlarge=True)


def _fitted(width: int, height: int, *, side: int, patch: int, may_enlarge: bool) -> Size:
    """Return the size of about side^2 pixels and the same aspect ratio, in whole patches."""
    if width * height > side**2 or may_enlarge:
        ratio = width / height
        height = int(side / sqrt(ratio))
        width = int(height * ratio)
    return _in_patches(width, patch), _in_patches(height, patch)


def _in_patches(pixels: int, patch: int) -> int:
    return max(round(pixels / patch) * patch, patch)
