"""Digests of pictures: made on other threads, the same whatever else is digested."""

import threading

import pytest

from deployer.prompt.picture_key import PictureKeys


def test_a_key_follows_from_the_parts_their_order_and_how_they_are_prepared() -> None:
    keys = PictureKeys()
    found = {
        keys.begin(how, [lambda part=part: part for part in parts])()
        for how in ("7x8", "8x7")
        for parts in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a", memoryview(b"c")])
    }
    assert len(found) == 8 and all(len(key) == 16 for key in found)
    assert keys.begin("7x8", [lambda: b"a", lambda: b"b"])() in found


def test_parts_are_digested_while_their_picture_goes_on() -> None:
    may_go = threading.Event()

    def part() -> bytes:
        assert may_go.wait(10)
        return b"pixels"

    key = PictureKeys().begin("one", [part, part])
    may_go.set()  # reached: to begin does not wait
    assert key() == key()


def test_a_single_part_is_digested_once() -> None:
    asked = []
    key = PictureKeys().begin("one", [lambda: asked.append(1) or b"pixels"])
    assert key() == key() and len(asked) == 1


def test_who_asks_digests_what_no_thread_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    has_helped = threading.Event()

    def first() -> bytes:
        assert has_helped.wait(10)
        return b"a"

    def second() -> bytes:
        has_helped.set()
        return b"b"

    key = PictureKeys().begin("one", [first, second])
    assert key() == PictureKeys().begin("one", [lambda: b"a", lambda: b"b"])()


def test_a_part_is_digested_once_whoever_does_it() -> None:
    asked: list[int] = []
    key = PictureKeys().begin("one", [lambda i=i: asked.append(i) or b"pixels" for i in range(9)])
    assert key() == key() and sorted(asked) == list(range(9))
