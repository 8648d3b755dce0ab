"""The folder of compiled kernels: what it returns is what was stored, or nothing."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.turbomind.cubin_cache import CubinCache, default_cache_dir


def test_what_is_stored_comes_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    cache = CubinCache(tmp_path / "new")
    assert cache.load("norm", "ab" * 32) is None
    cache.store("norm", "ab" * 32, b"code")
    assert cache.load("norm", "ab" * 32) == b"code"
    assert cache.load("norm", "cd" * 32) is None
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_file_is_reported_and_not_used(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = CubinCache(tmp_path)
    cache.store("norm", "ab" * 32, b"code")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert cache.load("norm", "ab" * 32) is None
    assert "is damaged: compiling it again" in caplog.text
    cache.store("norm", "ab" * 32, b"code")
    assert cache.load("norm", "ab" * 32) == b"code"


def test_a_folder_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = CubinCache(tmp_path / "file" / "cubins")
    with caplog.at_level(logging.WARNING):
        cache.store("norm", "ab" * 32, b"code")
        cache.store("rope", "ab" * 32, b"code")
        assert cache.load("norm", "ab" * 32) is None
    assert caplog.text.count("cannot be kept") == 1
    assert "every start will compile them again; let this user write there, or name" in caplog.text


def test_many_writers_of_one_key_leave_one_whole_file(tmp_path: Path) -> None:
    cubin = os.urandom(200_000)

    def write_and_read(_: int) -> bytes | None:
        cache = CubinCache(tmp_path)
        cache.store("norm", "ab" * 32, cubin)
        return cache.load("norm", "ab" * 32)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write_and_read, range(40))) == {cubin}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_users_cache_folder_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "deployer" / "cubins"


def test_a_user_without_a_home_has_a_cache_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name/cache")
    assert default_cache_dir() == Path("~nobody-of-this-name/cache/deployer/cubins")
