"""Work on one picture in threads: nothing is lost, nothing changes places, and pixels stay the same."""

import threading

import numpy as np
import pytest
from PIL import Image

from engines.vision.pixels import resize, side_by_side
from engines.vision.pixels.side_by_side import LARGE_PIXELS, THREADS, bands
from engines.vision.pixels.side_by_side import side_by_side as run


@pytest.mark.parametrize("length", [1, 3, 4, 7, 1344])
def test_bands_cover_a_length_without_empty_ones(length: int) -> None:
    found = bands(length)
    assert [at for start, end in found for at in range(start, end)] == list(range(length))
    assert len(found) == min(length, THREADS)
    assert len(bands(length, most=2)) == min(length, 2)


def test_calls_of_a_large_picture_run_at_the_same_time_and_keep_their_order() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def call(number: int) -> int:
        meeting.wait()
        return number

    assert run([lambda i=i: call(i) for i in range(3)], pixels=LARGE_PIXELS) == [0, 1, 2]


def test_a_small_picture_stays_in_its_thread() -> None:
    names = run([lambda: threading.current_thread().name] * 2, pixels=LARGE_PIXELS - 1)
    assert set(names) == {threading.current_thread().name}


def test_what_a_call_raises_comes_out() -> None:
    def fail() -> int:
        raise ValueError("no such pixel")

    with pytest.raises(ValueError, match="no such pixel"):
        run([lambda: 1, fail], pixels=LARGE_PIXELS)


@pytest.mark.parametrize("size", [(448, 448), (1344, 896), (300, 901), (640, 1)])
@pytest.mark.parametrize("how", [resize.bicubic, resize.bilinear])
def test_bands_give_the_pixels_of_the_whole(
    size: tuple[int, int], how, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (481, 1203, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    in_bands = how(picture, *size)
    monkeypatch.setattr(resize, "LARGE_PIXELS", 1 << 40)
    assert np.array_equal(in_bands, how(picture, *size))
    assert noise.shape[0] * noise.shape[1] >= side_by_side.LARGE_PIXELS
