"""`server.processes` above 1, as processes: what they share, and what the death of each costs."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from live_server import LiveServer, live_server
from several_processes import (
    CHAT,
    LONG,
    PATH,
    SEVERAL,
    answered_by,
    client_of,
    counted,
    fronts_of,
    reading,
    until,
)


@pytest.fixture(scope="module")
def words(tiny_words: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny_words, *SEVERAL)


@pytest.fixture(scope="module")
def server(words: tuple[str, ...]) -> Iterator[LiveServer]:
    with live_server(*words, "server.max_requests=6") as running:
        yield running


@asynccontextmanager
async def operated(
    words: tuple[str, ...], tmp_path: Path
) -> AsyncIterator[tuple[LiveServer, httpx.AsyncClient]]:
    """Yield a server of several processes and its operator, each of whose requests is a connection."""
    keys = tmp_path / "operators"
    keys.write_text("operator\n")
    with live_server(*words, f"server.admin_keys_file={keys}") as server:
        async with client_of(server) as client:
            client.headers.update({"authorization": "Bearer operator", "connection": "close"})
            yield server, client
        assert server.end() == 0


async def test_requests_are_spread_and_whoever_is_asked_tells_the_sum(server: LiveServer) -> None:
    before = counted(server, "200")
    async with client_of(server) as client:
        for _ in range(4):
            replies = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))
            assert [reply.status_code for reply in replies] == [200] * 6
        await until(lambda: answered_by(server) == {"0", "1"}, "one process answered all")
        await until(lambda: counted(server, "200") == before + 24, "not all were counted")
    assert server.figure("deployer_requests_in_flight") == 0
    named = httpx.get(f"{server.url}/metrics").text
    for process in ("parent", "0", "1"):
        assert f'process_resident_memory_bytes{{process="{process}"}}' in named
    assert httpx.get(f"{server.url}/health").json()["status"] == "ready"
    assert len({httpx.get(f"{server.url}/v1/models").json()["data"][0]["created"] for _ in range(4)}) == 1


async def test_the_places_are_those_of_all_processes_together(server: LiveServer) -> None:
    async with client_of(server) as client:
        streams = [asyncio.create_task(reading(client)) for _ in range(6)]
        await until(lambda: server.figure("deployer_requests_in_flight") == 6, "the places were not taken")
        refused = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(8)))
        assert [reply.status_code for reply in refused] == [429] * 8
        assert "6 requests are in flight, `server.max_requests` allows 6" in refused[0].text
        assert httpx.get(f"{server.url}/ready").status_code == 503
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await until(lambda: server.figure("deployer_requests_in_flight") == 0, "places are still held")
        assert (await client.post(PATH, json=CHAT)).status_code == 200


async def test_a_killed_front_loses_its_own_requests_and_is_started_again(server: LiveServer) -> None:
    fronts, before = fronts_of(server), counted(server, "200")
    assert len(fronts) == 2
    async with client_of(server) as client:
        streams = [asyncio.create_task(reading(client)) for _ in range(6)]
        await until(lambda: server.figure("deployer_sequences_running") == 6, "the streams did not start")
        killed = min(fronts)
        os.kill(killed, signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        lost = [text for text in ends if "lost: " in text]
        assert len(lost) == 3, "connections go to the front that has fewest"
        assert sum("data: [DONE]" in text for text in ends) == 3
        await until(lambda: len(fronts_of(server)) == 2, "the front was not started again")
        assert killed not in fronts_of(server)
        await until(lambda: server.figure("deployer_sequences_running") == 0, "sequences of the dead run on")
        assert server.figure("deployer_requests_in_flight") == 0, "the dead front holds places"
        await until(lambda: counted(server, "200") >= before + 3, "what the dead front counted is gone")
        assert any(
            "server process" in line and "signal 9 (SIGKILL); its 3 sequences are lost" in line
            for line in server.lines
        )
        assert len(await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))) == 6
    assert server.figure("deployer_engine_restarts_total") == 0


async def test_a_killed_engine_is_told_to_the_clients_of_all_processes(server: LiveServer) -> None:
    async with client_of(server) as client:
        streams = [asyncio.create_task(reading(client)) for _ in range(6)]
        await until(lambda: server.figure("deployer_sequences_running") == 6, "the streams did not start")
        engine = server.engine_pid()
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        assert all('"code":"engine_error"' in text and "[DONE]" not in text for text in ends)
        away = httpx.get(f"{server.url}/health")
        assert away.status_code == 503 and "signal 9" in away.json()["fault"]
        refused = httpx.post(f"{server.url}{PATH}", json=CHAT)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        await until(lambda: httpx.get(f"{server.url}/health").status_code == 200, "it did not come back")
        replies = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))
        assert [reply.status_code for reply in replies] == [200] * 6
    assert server.figure("deployer_engine_restarts_total") == 1


async def test_a_latency_target_moves_the_places_of_all_processes(words: tuple[str, ...]) -> None:
    targets = ("server.target_ttft_ms=0.001", "server.target_window=4")  # which no request can meet
    with live_server(*words, *targets) as server:
        async with client_of(server) as client:
            assert server.figure("deployer_requests_allowed") == 4
            for _ in range(8):
                replies = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(4)))
                assert {reply.status_code for reply in replies} <= {200, 429}
            await until(lambda: answered_by(server) == {"0", "1"}, "one process answered all")
            for _ in range(4):
                assert server.figure("deployer_requests_allowed") == 1
        assert server.end() == 0


async def test_what_an_operator_asks_one_process_holds_for_all(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    async with operated(words, tmp_path) as (server, client):
        streams = [asyncio.create_task(reading(client)) for _ in range(4)]
        await until(lambda: server.figure("deployer_sequences_running") == 4, "they did not start")
        unknown = await client.post("/admin/abort", json={"id": "chatcmpl-0"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_not_found")
        drained = await client.post("/admin/drain")
        assert drained.json() == {"draining": True, "in_flight": 4}
        refused = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))
        assert {reply.json()["error"]["code"] for reply in refused} == {"shutting_down"}
        assert {httpx.get(f"{server.url}/health").json()["status"] for _ in range(4)} == {"draining"}
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        assert (await client.post("/admin/resume")).json()["draining"] is False
        assert (await client.post("/admin/flush")).status_code == 200
        replies = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(6)))
        assert {reply.status_code for reply in replies} == {200}


async def test_an_operator_ends_a_request_whichever_process_has_it(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    async with operated(words, tmp_path) as (_, client):
        told: set[str] = set()

        async def stream() -> str:
            text = ""
            async with client.stream("POST", PATH, json=LONG) as reply:
                async for piece in reply.aiter_text():
                    text += piece
                    found = re.search(r'"id":"(chatcmpl-\w+)"', text)
                    if found is not None:
                        told.add(found[1])
            return text

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        await until(lambda: len(told) == 4, "they did not start")
        for one in list(told):
            ended = await client.post("/admin/abort", json={"id": one})
            assert ended.json() == {"id": one, "sequences": 1}
        ends = await asyncio.gather(*streams)
        assert all('"code":"aborted"' in text and "[DONE]" not in text for text in ends)
