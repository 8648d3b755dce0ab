import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.errors import RequestError
from engines.ipc.pixel_files import PixelFiles
from engines.ipc.take_pixels import take_pixels


@pytest.fixture
def files() -> Iterator[PixelFiles]:
    one = PixelFiles()
    yield one
    one.close()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_file_that_is_gone_or_has_another_size_is_told(files: PixelFiles) -> None:
    ref = files.write(noise(4))
    for data in (b"abc", b"abcde"):
        Path(ref.path).write_bytes(data)
        with pytest.raises(RequestError, match=rf"{len(data)} bytes, shape \(4,\) needs 4"):
            take_pixels(ref)
        with pytest.raises(RequestError, match="cannot be read: No such file") as raised:
            take_pixels(ref)
        assert raised.value.code == "engine_error"


def test_pixels_stay_when_the_front_end_is_gone() -> None:
    files = PixelFiles()
    taken = take_pixels(files.write(noise(50, 60, 3)))
    files.close()
    np.testing.assert_array_equal(taken, noise(50, 60, 3))


def test_pixels_that_are_held_take_no_descriptors_and_give_their_memory_back(files: PixelFiles) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("vlm-pixels-")

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    held = [take_pixels(files.write(noise(5000))) for _ in range(50)]
    assert descriptors() <= before + 2  # the lock of the folder
    assert mapped() == 50 and len(held) == 50
    held.clear()
    gc.collect()
    assert mapped() == 0
