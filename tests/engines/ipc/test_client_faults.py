"""Engines that die, hang or never start: each test has its own process."""

import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import HANGS_ID, IMAGE_ID, LOST_ID, OPTIONS, SLOW_ID, SPEC, ask, client, submit, wait_until

from engines.errors import CheckpointError, DeviceError, EngineError
from engines.ipc.client import EngineClient
from engines.messages import Done, Failed, Reply
from engines.options import EngineOptions

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


@asynccontextmanager
async def running(how: EngineOptions = OPTIONS, **changes: Any) -> AsyncIterator[EngineClient]:
    engine = client(how, **changes)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
        assert engine.pid is None


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_killed_engine_answers_everybody_once_and_comes_back() -> None:
    async with running() as engine:
        first_pid = engine.pid
        assert first_pid is not None
        requests = [
            submit(engine, [SLOW_ID, *[IMAGE_ID] * 4], pictures=[(1, n)], max_new_tokens=200)
            for n in range(20)
        ]
        tasks = [asyncio.create_task(ask(engine, request)) for request in requests]
        await wait_until(lambda: engine.stats is not None and engine.stats.num_running > 0)
        os.kill(first_pid, signal.SIGKILL)
        ends = [end for _, end in await asyncio.wait_for(asyncio.gather(*tasks), 10)]
        assert all(isinstance(end, Failed) and end.code == "engine_error" for end in ends)
        assert engine.state == "restarting" and engine.stats is None
        assert engine.fault is not None and "signal 9" in engine.fault
        _, end = await ask(engine, submit(engine, [1]))
        assert isinstance(end, Failed) and end.code == "engine_unavailable"
        await wait_until(lambda: engine.state == "ready")
        assert (engine.num_restarts, engine.pid == first_pid) == (1, False)
        _, end = await ask(engine, submit(engine, [1], max_new_tokens=1))
        assert isinstance(end, Done)
        refs = [ref for request in requests for image in request.images for ref in image.pixels]
        assert not any(Path(ref.path).exists() for ref in refs)
        assert not is_alive(first_pid)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
async def test_a_step_that_loses_the_device_names_its_fault_and_the_engine_comes_back(device: str) -> None:
    async with running(replace(OPTIONS, device=device)) as engine:
        first_pid = engine.pid
        waiting = asyncio.create_task(ask(engine, submit(engine, [SLOW_ID], max_new_tokens=200)))
        await wait_until(lambda: engine.stats is not None and engine.stats.num_running > 0)
        _, end = await asyncio.wait_for(ask(engine, submit(engine, [LOST_ID])), 30)
        assert isinstance(end, Failed) and end.code == "engine_error"
        assert re.fullmatch(
            "a step failed: the engine's log has the cause under fault [0-9a-f]{8}", end.message
        )
        _, end = await asyncio.wait_for(waiting, 30)
        assert isinstance(end, Failed) and end.code == "engine_error"
        await wait_until(lambda: engine.num_restarts == 1 and engine.state == "ready")
        assert engine.pid != first_pid
        _, end = await ask(engine, submit(engine, [1], max_new_tokens=1))
        assert isinstance(end, Done)


async def test_an_engine_that_dies_too_often_is_dead() -> None:
    async with running(max_restarts=1) as engine:
        for _ in range(2):
            await wait_until(lambda: engine.state == "ready")
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            await wait_until(lambda: engine.state != "ready")
        await wait_until(lambda: engine.state == "dead")
        _, end = await ask(engine, submit(engine, [1]))
        assert isinstance(end, Failed) and "signal 9" in end.message


async def test_a_fault_of_ours_beside_an_engine_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as engine:

        def lost(replies: Sequence[Reply]) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(engine._sink, "put_all", lost)
        _, end = await asyncio.wait_for(ask(engine, submit(engine, [1], max_new_tokens=2)), 20)
        assert isinstance(end, Failed) and "a fault of ours" in end.message
        assert engine.state == "dead"
        _, end = await ask(engine, submit(engine, [1]))
        assert isinstance(end, Failed) and end.code == "engine_unavailable"


async def test_a_stuck_engine_is_ended_and_comes_back() -> None:
    async with running(replace(OPTIONS, step_timeout_s=1.0)) as engine:
        pid = engine.pid
        assert pid is not None
        _, end = await asyncio.wait_for(ask(engine, submit(engine, [HANGS_ID])), 10)
        assert isinstance(end, Failed)
        assert "said nothing for 2 s (engine.step_timeout_s=1)" in end.message
        await wait_until(lambda: engine.state == "ready")
        assert not is_alive(pid)


async def test_an_engine_that_a_signal_holds_up_is_lost_long_before_a_step_may_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engines.ipc.liveness.STOPPED_S", 1.5)
    async with running(replace(OPTIONS, step_timeout_s=300.0)) as engine:
        pid = engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        _, end = await asyncio.wait_for(ask(engine, submit(engine, [1])), 10)
        assert isinstance(end, Failed)
        assert "is stopped by a signal (SIGSTOP)" in end.message
        await wait_until(lambda: engine.state == "ready")
        assert not is_alive(pid)


async def test_a_long_step_is_no_stopped_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.ipc.liveness.STOPPED_S", 0.05)
    async with running() as engine:
        _, end = await ask(engine, submit(engine, [SLOW_ID], max_new_tokens=5))
        assert isinstance(end, Done)
        assert engine.num_restarts == 0


async def test_an_idle_engine_is_not_taken_for_a_stuck_one() -> None:
    async with running(replace(OPTIONS, step_timeout_s=1.0)) as engine:  # lost after 2 s of silence
        await asyncio.sleep(3.0)
        assert (engine.state, engine.num_restarts) == ("ready", 0)


async def test_closing_ends_the_process_and_the_open_streams() -> None:
    engine = client()
    await engine.start()
    pid = engine.pid
    assert pid is not None
    task = asyncio.create_task(ask(engine, submit(engine, [SLOW_ID], max_new_tokens=200)))
    await wait_until(lambda: engine.stats is not None and engine.stats.num_running > 0)
    await engine.close()
    await engine.close()
    _, end = await task
    assert isinstance(end, Failed)
    assert engine.state == "dead" and not is_alive(pid)


async def test_what_keeps_an_engine_from_starting_is_raised_as_it_was() -> None:
    engine = client(replace(OPTIONS, device="npu"))
    with pytest.raises(DeviceError, match="torch_npu does not import"):
        await engine.start()
    assert (engine.state, engine.pid) == ("dead", None)


async def test_a_missing_checkpoint_is_a_checkpoint_error() -> None:
    engine = EngineClient(Path("/nowhere/at/all"), SPEC, OPTIONS, start_timeout_s=60, max_restarts=0)
    with pytest.raises(CheckpointError, match="/nowhere/at/all"):
        await engine.start()


async def test_a_start_that_takes_too_long_says_in_which_phase() -> None:
    engine = client(start_timeout_s=0.05)
    with pytest.raises(
        EngineError, match=r"not ready after 0\.05 s, in phase `.+`: raise engine.start_timeout_s"
    ):
        await engine.start()
    assert engine.pid is None


async def test_a_process_that_ends_at_once_is_told() -> None:
    engine = EngineClient(
        Path("x"),
        SPEC,
        OPTIONS,
        start_timeout_s=60,
        max_restarts=0,
        command=(sys.executable, "-c", "exit(3)", "--"),
    )
    with pytest.raises(EngineError, match="ended with code 3"):
        await engine.start()


async def test_a_temporary_folder_too_deep_for_a_socket_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(EngineError, match=r"at most 107 bytes; set TMPDIR to a shorter folder"):
        await client().start()
    assert list(deep.glob("vlm-engine-*")) == []


async def test_a_restart_that_finds_no_temporary_folder_counts_as_a_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(max_restarts=2) as engine:
        assert engine.pid is not None
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
        os.kill(engine.pid, signal.SIGKILL)
        await wait_until(lambda: engine.state == "dead")
        assert engine.fault is not None and "/nowhere" in engine.fault


async def test_a_command_that_does_not_exist_is_told() -> None:
    engine = EngineClient(
        Path("x"), SPEC, OPTIONS, start_timeout_s=60, max_restarts=0, command=("/no/such/file",)
    )
    with pytest.raises(EngineError, match="cannot be started"):
        await engine.start()


PARENT = """
import asyncio, os, sys
sys.path.insert(0, {support!r})
from tiny_engine import client

async def main():
    engine = client()
    await engine.start()
    print(engine.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_an_engine_ends_with_its_parent() -> None:
    support = str(Path(client.__code__.co_filename).parent)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT.format(support=support), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    await parent.wait()
    started = time.monotonic()
    await wait_until(lambda: not is_alive(pid), timeout_s=5)
    assert time.monotonic() - started < 5


async def test_sigterm_ends_the_engine_with_an_answer_for_everybody() -> None:
    async with running(max_restarts=0) as engine:
        task = asyncio.create_task(ask(engine, submit(engine, [SLOW_ID], max_new_tokens=200)))
        await wait_until(lambda: engine.stats is not None and engine.stats.num_running > 0)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGTERM)
        _, end = await task
        assert isinstance(end, Failed)
        await wait_until(lambda: engine.state == "dead")
        assert engine.fault is not None and "ended with code 0" in engine.fault
