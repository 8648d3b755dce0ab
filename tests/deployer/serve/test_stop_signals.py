"""Signals and what waits for them."""

import asyncio
import os
import signal

import pytest

from deployer.serve.stop_signals import Interrupted, StopSignals, unless


async def test_the_first_signal_asks_and_the_second_insists() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(signals.first.wait(), 5)
        assert not signals.second.is_set()
        assert signals.exit_code == 0
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(signals.second.wait(), 5)
        assert signals.exit_code == 130


async def test_a_terminal_that_closes_asks_however_often_it_says_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run behind nohup
    try:
        with StopSignals() as signals:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0.01)
            assert signals.first.is_set() and not signals.second.is_set()
            assert signals.exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_hangup_that_nohup_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
            assert not signals.first.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_what_is_done_first_is_returned() -> None:
    assert await unless(asyncio.Event(), asyncio.sleep(0, "done")) == "done"


async def test_an_event_cancels_what_is_not_done() -> None:
    event, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    asyncio.get_running_loop().call_later(0.01, event.set)
    with pytest.raises(Interrupted):
        await unless(event, work())
    assert cancelled.is_set()


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await unless(asyncio.Event(), work())
