import torch

from engines.memory.encoder_cache import EncoderCache

ROW_BYTES = 4 * 8


def filled(max_bytes: int, *keys: bytes) -> EncoderCache:
    cache = EncoderCache(max_bytes)
    for key in keys:
        cache.put(key, torch.zeros(1, 8))
    return cache


def kept(cache: EncoderCache, *keys: bytes) -> list[bytes]:
    return [key for key in keys if cache.get(key) is not None]


def test_trim_drops_the_longest_unused_until_the_rest_fits() -> None:
    cache = filled(2 * ROW_BYTES, b"a", b"b", b"c")
    cache.get(b"a")
    cache.trim(())
    assert kept(cache, b"a", b"b", b"c") == [b"a", b"c"]
    assert cache.num_bytes == 2 * ROW_BYTES


def test_an_image_in_use_stays_whatever_the_limit() -> None:
    cache = filled(0, b"a", b"b")
    cache.trim({b"a"})
    assert kept(cache, b"a", b"b") == [b"a"]


def test_nothing_is_dropped_while_all_fits() -> None:
    cache = filled(3 * ROW_BYTES, b"a", b"b", b"c")
    cache.trim(())
    assert kept(cache, b"a", b"b", b"c") == [b"a", b"b", b"c"]
