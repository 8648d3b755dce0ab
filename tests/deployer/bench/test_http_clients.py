"""The processes that ask over HTTP, around the fake engine."""

import asyncio
import errno
import os
import subprocess
from typing import Any

import pytest
from fake_engine import FakeEngine, Script

from deployer.bench.client_process import NO_MORE, TICKET, Round
from deployer.bench.http_clients import ClientProcess, http_clients, shares_of
from deployer.bench.online import AskedServer, ids_ask
from deployer.errors import UnavailableError

PROMPTS = [[number, 7] for number in range(1, 12)]


async def test_each_request_is_asked_once_by_one_of_several_processes(live: Any, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text="x" * 9, pause_s=0.01)
    server = AskedServer(url=(await live()).url, api_key=None, timeout_s=20)
    asks = [ids_ask("tiny", prompt, output_tokens=9) for prompt in PROMPTS]
    async with http_clients(server, clients=2, most_at_once=3) as clients:
        for _ in range(2):  # the same processes, over the same connections
            found = await clients.measure(asks, 3)
            assert sorted(one.token_ids[0] for one in engine.submits) == [ids[0] for ids in PROMPTS]
            engine.submits.clear()
            assert len(found.samples) == len(PROMPTS)
            assert all(one.output_tokens == 9 for one in found.samples)
            assert 0 < found.busiest < 2
            # 4 rounds of requests that run at once, of 9 pauses each
            assert 4 * 9 * 0.01 <= found.seconds < 20


async def test_no_more_run_at_once_than_asked_for(live: Any, engine: FakeEngine) -> None:
    engine.gate = asyncio.Event()
    server = AskedServer(url=(await live()).url, api_key=None, timeout_s=20)
    asks = [ids_ask("tiny", prompt, output_tokens=4) for prompt in PROMPTS]
    async with http_clients(server, clients=2, most_at_once=3) as clients:
        measuring = asyncio.create_task(clients.measure(asks, 3))
        while engine.running < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert engine.running == 3
        engine.gate.set()
        assert len((await measuring).samples) == len(PROMPTS)


async def test_a_request_that_fails_fails_the_round(live: Any, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "boom"))
    server = AskedServer(url=(await live()).url, api_key=None, timeout_s=20)
    async with http_clients(server, clients=2, most_at_once=2) as clients:
        with pytest.raises(UnavailableError, match="boom"):
            await clients.measure([ids_ask("tiny", [1, 2], output_tokens=4)] * 3, 2)


async def test_a_process_that_is_gone_is_told() -> None:
    server = AskedServer(url="http://127.0.0.1:9", api_key=None, timeout_s=20)
    async with http_clients(server, clients=1, most_at_once=1) as clients:
        clients.processes[0].kill()
        with pytest.raises(UnavailableError, match="a process of the benchmark that asks over HTTP is gone"):
            await clients.measure([ids_ask("tiny", [1], output_tokens=1)], 1)


async def test_a_process_whose_parent_is_killed_leaves_its_round(live: Any, engine: FakeEngine) -> None:
    engine.gate = asyncio.Event()
    server = AskedServer(url=(await live()).url, api_key=None, timeout_s=20)
    tickets, write_tickets = os.pipe()
    client = ClientProcess(server, tickets)
    try:
        client.arm(Round(asks=[ids_ask("tiny", [1, 2], output_tokens=4)] * 9, at_once=1))
        os.write(write_tickets, b"".join(TICKET.pack(number) for number in (*range(9), NO_MORE)))
        client.go()
        while engine.running < 1:
            await asyncio.sleep(0.01)
        client._connection.close()  # as the kernel does it for a process that is killed
        assert await asyncio.to_thread(client.process.wait, 10) == 0
        assert len(engine.submits) == 1
    finally:
        client.close()
        os.close(tickets)
        os.close(write_tickets)


def test_shares_differ_by_one_at_most() -> None:
    assert shares_of(8, 3) == [2, 3, 3]
    assert shares_of(2, 2) == [1, 1]
    assert sum(shares_of(256, 7)) == 256


async def test_what_has_started_ends_where_one_more_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = subprocess.Popen, list[subprocess.Popen[bytes]]()

    def one_alone(*words: Any, **how: Any) -> subprocess.Popen[bytes]:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(start(*words, **how))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", one_alone)
    server = AskedServer(url="http://127.0.0.1:1", api_key=None, timeout_s=1)
    with pytest.raises(UnavailableError, match=r"process 2 of 3 .*: Resource temporarily"):
        async with http_clients(server, clients=3, most_at_once=3):
            pass
    assert started[0].poll() is not None
