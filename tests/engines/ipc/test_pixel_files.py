from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.errors import RequestError
from engines.ipc import pixel_files
from engines.ipc.owned_folder import LOCK
from engines.ipc.pixel_files import PixelFiles
from engines.ipc.take_pixels import take_pixels


@pytest.fixture
def files() -> Iterator[PixelFiles]:
    one = PixelFiles()
    yield one
    one.close()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_array_comes_back_as_it_was_and_its_file_is_gone(files: PixelFiles) -> None:
    array = noise(2, 4, 4, 3)
    ref = files.write(array)
    np.testing.assert_array_equal(take_pixels(ref), array)
    assert not Path(ref.path).exists()


def test_an_array_that_is_not_contiguous_comes_back_as_it_was(files: PixelFiles) -> None:
    array = noise(4, 6, 3).transpose(1, 0, 2)
    np.testing.assert_array_equal(take_pixels(files.write(array)), array)


def test_what_a_killed_server_left_goes_before_the_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_files, "SHARED_MEMORY", tmp_path)
    left = tmp_path / f"{pixel_files.PREFIX}x"
    left.mkdir()
    (left / LOCK).touch()
    PixelFiles().close()
    assert not left.exists()


def test_a_link_is_a_file_of_its_own(files: PixelFiles) -> None:
    array = noise(3, 3)
    ref = files.write(array)
    link = files.link(ref)
    take_pixels(ref)
    np.testing.assert_array_equal(take_pixels(link), array)


def test_a_file_that_nobody_took_can_be_removed_and_removed_again(files: PixelFiles) -> None:
    ref = files.write(noise(3))
    files.remove(ref)
    files.remove(ref)
    assert not Path(ref.path).exists()


def test_close_removes_what_is_left() -> None:
    files = PixelFiles()
    ref = files.write(noise(3))
    files.close()
    assert not Path(ref.path).parent.exists()


def test_what_does_not_fit_into_shared_memory_goes_to_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = Path("/dev/full")  # every write to it fails like one to a full disk
    monkeypatch.setattr(pixel_files.tempfile, "gettempdir", lambda: str(tmp_path))
    files = PixelFiles()
    real = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        return real(full if not path.is_relative_to(tmp_path) else path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    ref = files.write(noise(5))
    assert Path(ref.path).is_relative_to(tmp_path)
    files.close()


def test_pixels_that_fit_nowhere_are_refused_with_a_code_of_their_own_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, files: PixelFiles
) -> None:
    folder = Path(files.write(noise(1)).path).parent
    before = set(folder.iterdir())
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: real(Path("/dev/full"), data))
    with pytest.raises(
        RequestError, match=r"12 bytes of a picture find no room in .*No space left"
    ) as raised:
        files.write(noise(12))
    assert raised.value.code == "no_room"
    assert set(folder.iterdir()) == before
