import numpy as np

from engines.decoder.positions import prompt_positions
from engines.schedule.sequence import ImageSlots
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


def test_a_video_is_a_grid_at_each_of_its_times_and_text_goes_on_behind_the_last_of_all() -> None:
    plan = ImagePlan(width=2, height=1, grid=(2, 1), num_tiles=3, times=(0, 2, 5))
    video = ImageSlots(key=b"k" * 16, start=1, num_tokens=6, pixels=ImagePixels(arrays=(), plan=plan))
    axes, offset = prompt_positions("mrope", 8, [video])
    assert axes is not None
    assert axes.tolist() == [
        [0, 1, 1, 3, 3, 6, 6, 7],
        [0, 1, 1, 1, 1, 1, 1, 7],
        [0, 1, 2, 1, 2, 1, 2, 7],
    ]
    assert offset == 8 - 8


def test_images_may_touch_begin_and_end_a_prompt() -> None:
    axes, offset = prompt_positions("mrope", 4, [image(0, 1, 2), image(2, 2, 1)])
    assert axes is not None
    assert axes.tolist() == [[0, 0, 2, 2], [0, 1, 2, 2], [0, 0, 2, 3]]
    assert offset == 4 - 4
    assert axes.dtype == np.int64


def test_an_image_takes_three_positions_its_rows_but_first_and_last_share_one() -> None:
    axes, offset = prompt_positions("three_an_image", 11, [image(1, 2, 2), image(5, 3, 1)])
    assert axes is not None
    assert axes.tolist() == [[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert offset == 10 - 11
    axes, offset = prompt_positions("three_an_image", 5, [image(0, 5, 1)])
    assert axes is not None
    assert axes.tolist() == [[0, 1, 1, 1, 2]]
    assert offset == 3 - 5
