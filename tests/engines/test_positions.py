import numpy as np

from engines.positions import prompt_positions
from engines.sequence import ImageSlots
from engines.vision.parts import ImagePixels, ImagePlan


def image(start: int, columns: int, rows: int) -> ImageSlots:
    plan = ImagePlan(width=columns, height=rows, grid=(columns, rows), num_tiles=1)
    pixels = ImagePixels(arrays=(), plan=plan)
    return ImageSlots(key=b"k" * 16, start=start, num_tokens=columns * rows, pixels=pixels)


def test_tokens_count_on_by_default_and_wherever_there_is_no_image() -> None:
    assert prompt_positions("sequential", 9, [image(2, 2, 2)]) == (None, 0)
    assert prompt_positions("mrope", 9, []) == (None, 0)


def test_an_image_spans_its_grid_and_text_goes_on_behind_its_longer_side() -> None:
    axes, offset = prompt_positions("mrope", 10, [image(2, 3, 2)])
    assert axes is not None
    assert axes.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert offset == 7 - 10


def test_images_may_touch_begin_and_end_a_prompt() -> None:
    axes, offset = prompt_positions("mrope", 4, [image(0, 1, 2), image(2, 2, 1)])
    assert axes is not None
    assert axes.tolist() == [[0, 0, 2, 2], [0, 1, 2, 2], [0, 0, 2, 3]]
    assert offset == 4 - 4
    assert axes.dtype == np.int64
