import pytest

from engines.memory.kv_pages import KvPages


def test_every_page_is_handed_out_once() -> None:
    pages = KvPages(4)
    assert {pages.allocate() for _ in range(4)} == {0, 1, 2, 3}
    assert pages.num_free == 0


def test_a_page_is_free_only_after_its_last_holder() -> None:
    pages = KvPages(1)
    page = pages.allocate()
    pages.retain(page)
    pages.release(page, keep=False)
    assert not pages.is_free(page)
    pages.release(page, keep=False)
    assert pages.is_free(page)


def test_kept_pages_are_reused_last_and_in_the_order_of_their_release() -> None:
    pages = KvPages(3)
    first, second, third = (pages.allocate() for _ in range(3))
    pages.release(second, keep=True)
    pages.release(first, keep=True)
    pages.release(third, keep=False)
    assert [pages.allocate() for _ in range(3)] == [third, second, first]


def test_a_free_page_can_be_held_again() -> None:
    pages = KvPages(2)
    page = pages.allocate()
    pages.release(page, keep=True)
    pages.retain(page)
    assert pages.allocate() != page
    pages.check_integrity([0, 1])


def test_check_integrity_names_a_page_with_a_lost_holder() -> None:
    pages = KvPages(2)
    page = pages.allocate()
    with pytest.raises(AssertionError, match=f"page {page}: 1 references, 0 holders"):
        pages.check_integrity([])


def test_releasing_too_often_is_a_bug_that_is_named() -> None:
    with pytest.raises(AssertionError, match="released more often"):
        KvPages(1).release(0, keep=False)
