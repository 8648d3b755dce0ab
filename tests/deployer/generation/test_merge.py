import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deployer.generation.merge import merge


async def numbers(closed: list[str], name: str, count: int) -> AsyncGenerator[tuple[str, int], None]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield name, number
    finally:
        closed.append(name)


async def failing() -> AsyncGenerator[tuple[str, int], None]:
    await asyncio.sleep(0)
    yield "c", 0
    raise ValueError("the third stream broke")


def test_every_item_arrives_once_and_in_the_order_of_its_stream() -> None:
    async def run() -> list[tuple[str, int]]:
        closed: list[str] = []
        found = [item async for item in merge([numbers(closed, "a", 5), numbers(closed, "b", 3)])]
        assert sorted(closed) == ["a", "b"]
        return found

    found = asyncio.run(run())
    assert [n for name, n in found if name == "a"] == [0, 1, 2, 3, 4]
    assert [n for name, n in found if name == "b"] == [0, 1, 2]
    assert found.index(("b", 0)) < found.index(("a", 4)), "the streams run side by side"


def test_the_first_error_closes_the_other_streams() -> None:
    closed: list[str] = []

    async def run() -> None:
        async with aclosing(merge([numbers(closed, "a", 10**9), failing()])) as items:
            async for _ in items:
                pass

    with pytest.raises(ValueError, match="the third stream broke"):
        asyncio.run(run())
    assert closed == ["a"]


def test_a_reader_that_leaves_early_closes_all_streams() -> None:
    closed: list[str] = []

    async def run() -> None:
        streams = [numbers(closed, "a", 10**9), numbers(closed, "b", 10**9)]
        async with aclosing(merge(streams)) as items:
            async for _ in items:
                break

    asyncio.run(run())
    assert sorted(closed) == ["a", "b"]
