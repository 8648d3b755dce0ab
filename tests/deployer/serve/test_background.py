import asyncio
import threading

import pytest

from deployer.serve.background import Background


async def test_it_gives_the_result_of_the_work() -> None:
    work = Background(lambda: 7)
    assert await work.result() == 7
    assert not work.is_running


async def test_it_raises_what_the_work_raised() -> None:
    def fail() -> None:
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        await Background(fail).result()


async def test_who_waits_may_leave_and_the_work_goes_on_without_holding_the_process() -> None:
    gate = threading.Event()
    work = Background(gate.wait)
    waiting = asyncio.create_task(work.result())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.is_running
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "background")
    gate.set()
