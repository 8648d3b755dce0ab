"""`server.processes` above 1, as processes: what they share, and what the death of each costs."""

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import LiveServer, live_server, start

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Go on"}], "max_tokens": 4, "ignore_eos": True,
}  # fmt: skip
LONG: dict[str, Any] = {**CHAT, "max_tokens": 1500, "stream": True}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def words(tiny_words: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny_words, "server.processes=2", "server.max_stored_bytes=0")


@pytest.fixture(scope="module")
def server(words: tuple[str, ...]) -> Iterator[LiveServer]:
    with live_server(*words, "server.max_requests=6") as running:
        yield running


def client_of(server: LiveServer) -> httpx.AsyncClient:
    """Return a client that opens a connection for each request at once, as many as it takes."""
    return httpx.AsyncClient(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=64))


def pids(server: LiveServer) -> dict[str, int]:
    """Return the fronts of a server, by number, once both are there."""
    found: dict[str, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended while we looked
                continue
            if b"deployer.serve.fronts.front" in line and parent == server.process.pid:
                found[folder.name] = int(folder.name)
    return found


def answered_by(server: LiveServer) -> set[str]:
    """Return the processes whose lines say that they answered a chat."""
    line = re.compile(rf"process=(\d+) request=\S+ method=POST path={PATH} status=200 ")
    return {found[1] for text in list(server.lines) for found in line.finditer(text)}


def counted(server: LiveServer, code: str) -> float:
    return server.figure(f'deployer_requests_total{{code="{code}",path="{PATH}"}}') or 0.0


async def until(condition: Any, what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def reading(client: httpx.AsyncClient, body: dict[str, Any] = LONG) -> str:
    """Return a stream's text up to its end, however it ends."""
    text = ""
    try:
        async with client.stream("POST", PATH, json=body) as reply:
            async for piece in reply.aiter_text():
                text += piece
    except httpx.HTTPError as error:
        return f"{text} lost: {type(error).__name__}"
    return text


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
    fronts, before = pids(server), counted(server, "200")
    assert len(fronts) == 2
    async with client_of(server) as client:
        streams = [asyncio.create_task(reading(client)) for _ in range(6)]
        await until(lambda: server.figure("deployer_sequences_running") == 6, "the streams did not start")
        killed = min(fronts.values())
        os.kill(killed, signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        lost = [text for text in ends if "lost: " in text]
        assert len(lost) == 3, "connections go to the front that has fewest"
        assert sum("data: [DONE]" in text for text in ends) == 3
        await until(lambda: len(pids(server)) == 2, "the front was not started again")
        assert killed not in pids(server).values()
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
    keys = tmp_path / "operators"
    keys.write_text("operator\n")
    with live_server(*words, f"server.admin_keys_file={keys}") as server:
        async with client_of(server) as client:
            client.headers.update({"authorization": "Bearer operator", "connection": "close"})
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
        assert server.end() == 0


async def test_an_operator_ends_a_request_whichever_process_has_it(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    keys = tmp_path / "operators"
    keys.write_text("operator\n")
    with live_server(*words, f"server.admin_keys_file={keys}") as server:
        async with client_of(server) as client:
            client.headers.update({"authorization": "Bearer operator", "connection": "close"})
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
        assert server.end() == 0


async def test_sigterm_lets_every_process_end_what_it_answers(words: tuple[str, ...]) -> None:
    with live_server(*words) as server:
        async with client_of(server) as client:
            streams = [asyncio.create_task(reading(client, {**LONG, "max_tokens": 600})) for _ in range(6)]
            await until(lambda: server.figure("deployer_sequences_running") == 6, "they did not start")
            server.process.send_signal(signal.SIGTERM)
            ends = await asyncio.gather(*streams)
        assert all("data: [DONE]" in text for text in ends)
        assert server.process.wait(20) == 0
        assert pids(server) == {} and server.engine_pid() is None
        assert "Traceback" not in "".join(server.lines)


async def test_a_second_ctrl_c_ends_all_at_once_with_130(words: tuple[str, ...]) -> None:
    with live_server(*words) as server:
        async with client_of(server) as client:
            streams = [asyncio.create_task(reading(client)) for _ in range(4)]
            await until(lambda: server.figure("deployer_sequences_running") == 4, "they did not start")
            server.process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.5)
            assert server.process.poll() is None
            begun = time.monotonic()
            server.process.send_signal(signal.SIGINT)
            ends = await asyncio.gather(*streams)
            assert all('"code":"shutting_down"' in text for text in ends)
            assert await asyncio.to_thread(server.process.wait, 10) == 130
            assert time.monotonic() - begun < 5
        assert "Traceback" not in "".join(server.lines)


async def test_nothing_outlives_a_killed_parent(words: tuple[str, ...]) -> None:
    with live_server(*words) as server:
        left = [*pids(server).values(), server.engine_pid()]
        assert len(left) == 3 and None not in left
        server.process.kill()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "processes are left")


def test_a_port_in_use_is_told_before_any_process_is_started(words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(*words, f"server.port={port}")
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 6
    assert f"error: server.port={port} (command line `server.port={port}`): in use on 127.0.0.1; " in said
    assert "process=" not in said


async def test_keys_are_those_of_the_start_and_tls_ends_in_the_processes(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command to make a certificate with")
    certificate, key, keys = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "keys"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    keys.write_text("first\n")
    with live_server(
        *words,
        f"server.ssl_certfile={certificate}", f"server.ssl_keyfile={key}", f"server.api_keys_file={keys}",
    ) as server:  # fmt: skip
        keys.write_text("second\n")
        trusted = ssl.create_default_context(cafile=str(certificate))
        headers = {"authorization": "Bearer first", "connection": "close"}
        async with httpx.AsyncClient(base_url=server.url, verify=trusted, headers=headers) as client:
            os.kill(min(pids(server).values()), signal.SIGKILL)
            await until(lambda: any("(SIGKILL)" in line for line in server.lines), "its end was not seen")
            deadline = time.monotonic() + 30
            while answered_by(server) != {"0", "1"}:  # one of them was started after the file had changed
                assert time.monotonic() < deadline, "the process that was started again answered nothing"
                replies = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(8)))
                assert {reply.status_code for reply in replies} == {200}
                await asyncio.sleep(0.2)
            other = await client.post(PATH, json=CHAT, headers={"authorization": "Bearer second"})
            assert other.status_code == 401
        assert server.end() == 0
