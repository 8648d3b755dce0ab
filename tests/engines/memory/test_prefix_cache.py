import itertools

import pytest

from engines.memory.kv_pages import KvPages
from engines.memory.prefix_cache import PrefixCache, page_key, root_key

ROOT = root_key(0)
TOKENS = [1, 2, 3, 4]
CAT, DOG = b"c" * 16, b"d" * 16


def test_keys_differ_by_tokens_parent_regime_and_each_property_of_an_image() -> None:
    keys = {
        page_key(ROOT, TOKENS, []),
        page_key(ROOT, [1, 2, 3, 5], []),
        page_key(root_key(1), TOKENS, []),
        page_key(page_key(ROOT, TOKENS, []), TOKENS, []),
        page_key(ROOT, TOKENS, [(CAT, 0, 4, 0)]),
        page_key(ROOT, TOKENS, [(DOG, 0, 4, 0)]),
        page_key(ROOT, TOKENS, [(CAT, 0, 4, 4)]),
        page_key(ROOT, TOKENS, [(CAT, 1, 3, 0)]),
        page_key(ROOT, TOKENS, [(CAT, 0, 2, 0), (DOG, 2, 2, 0)]),
        page_key(ROOT, TOKENS, [(DOG, 0, 2, 0), (CAT, 2, 2, 0)]),
    }
    assert len(keys) == 10
    assert all(len(key) == 16 for key in keys)


def test_equal_pages_have_equal_keys() -> None:
    assert page_key(ROOT, TOKENS, [(CAT, 0, 4, 8)]) == page_key(ROOT, list(TOKENS), [(CAT, 0, 4, 8)])


def test_a_match_holds_the_page_and_a_miss_is_none() -> None:
    pool = KvPages(2)
    cache = PrefixCache(pool, enabled=True)
    page = cache.allocate()
    assert cache.insert(b"key", page)
    cache.release([page])
    assert cache.num_idle == 1
    assert cache.match(b"key") == page
    assert cache.num_idle == 0
    assert cache.match(b"other") is None
    pool.check_integrity([page])


def test_a_reused_page_is_no_longer_found() -> None:
    cache = PrefixCache(KvPages(1), enabled=True)
    page = cache.allocate()
    cache.insert(b"key", page)
    cache.release([page])
    assert cache.allocate() == page
    assert cache.match(b"key") is None
    assert cache.num_idle == 0


def test_a_prefix_is_reused_from_its_end_and_after_pages_without_a_key() -> None:
    cache = PrefixCache(KvPages(4), enabled=True)
    pages = [cache.allocate() for _ in range(4)]
    for page in pages[:3]:
        cache.insert(bytes([page]), page)
    cache.release(pages)
    assert [cache.allocate() for _ in range(4)] == [pages[3], pages[2], pages[1], pages[0]]


def test_the_longest_unused_prefix_goes_first() -> None:
    cache = PrefixCache(KvPages(2), enabled=True)
    old, new = cache.allocate(), cache.allocate()
    cache.insert(b"old", old)
    cache.insert(b"new", new)
    cache.release([old])
    cache.release([new])
    cache.match(b"old")
    cache.release([old])
    assert cache.allocate() == new


def test_the_first_page_with_a_key_stays_the_one() -> None:
    cache = PrefixCache(KvPages(2), enabled=True)
    first, second = cache.allocate(), cache.allocate()
    assert cache.insert(b"key", first)
    assert not cache.insert(b"key", second)
    cache.check_integrity()


def test_a_cache_that_is_off_finds_nothing() -> None:
    cache = PrefixCache(KvPages(1), enabled=False)
    assert not cache.insert(b"key", cache.allocate())
    assert cache.match(b"key") is None


@pytest.mark.parametrize("held_by_another", [False, True])
def test_a_forgotten_page_is_not_found_and_not_kept(held_by_another: bool) -> None:
    pool = KvPages(2)
    cache = PrefixCache(pool, enabled=True)
    page = cache.allocate()
    cache.insert(b"key", page)
    if held_by_another:
        assert cache.match(b"key") == page
    cache.forget(page)
    assert cache.match(b"key") is None
    cache.release([page] * (1 + held_by_another))
    assert (cache.num_idle, pool.num_free) == (0, 2)


def test_chains_of_distinct_token_lists_never_meet() -> None:
    keys = [page_key(ROOT, list(tokens), []) for tokens in itertools.product(range(4), repeat=4)]
    assert len(set(keys)) == 4**4
