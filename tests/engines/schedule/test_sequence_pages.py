from sequences import sequence

from engines.schedule.sequence_pages import SequencePages


def pages(num_pages: int = 8, *, prefix_caching: bool = True) -> SequencePages:
    return SequencePages(num_pages=num_pages, page_tokens=4, prefix_caching=prefix_caching)


def test_tokens_are_held_as_far_as_there_are_pages() -> None:
    pool, one = pages(2), sequence(range(10))
    assert not pool.lacks(one, 8) and pool.lacks(one, 9)
    assert pool.extend(one, 10) == 8
    assert (pool.num_used, len(one.pages)) == (2, 2)
    pool.check_integrity([one])


def test_what_is_released_is_found_by_the_next_with_that_prefix() -> None:
    pool, one, other = pages(), sequence(range(10)), sequence(range(10))
    pool.extend(one, 10)
    assert pool.insert_full(one, 10) == list(one.pages[:2])
    pool.release(one)
    assert (len(one.pages), one.num_computed, pool.num_used, pool.num_cached) == (0, 0, 0, 2)
    pool.match(other)
    assert (other.num_computed, pool.num_used, pool.num_cached) == (8, 2, 0)


def test_what_is_forgotten_is_not_found() -> None:
    for forget in ("pages", "sequence", "all"):
        pool, one, other = pages(), sequence(range(10)), sequence(range(10))
        pool.extend(one, 10)
        pool.insert_full(one, 10)
        if forget == "pages":
            pool.forget(one.pages)
        elif forget == "sequence":
            pool.forget_sequence(one)
        else:
            pool.flush()
        pool.match(other)
        assert not other.pages


def test_without_the_cache_nothing_is_shared() -> None:
    pool, one, other = pages(prefix_caching=False), sequence(range(10)), sequence(range(10))
    pool.extend(one, 10)
    assert pool.insert_full(one, 10) == []
    pool.match(other)
    assert not other.pages


def test_sequences_fit_where_all_could_end_or_each_has_a_page_to_spare_for_now() -> None:
    pool = pages(8)
    assert pool.fit([sequence(range(10), max_new_tokens=6) for _ in range(2)]), "4 pages each at their ends"
    assert not pool.fit([sequence(range(16), max_new_tokens=1000) for _ in range(2)]), "8 now, none to spare"
    assert pool.fit([sequence(range(8), max_new_tokens=1000) for _ in range(2)]), "4 now, 2 to spare"
