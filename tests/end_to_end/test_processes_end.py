"""How a server of several processes starts and ends: signals, its parent's death, a port taken, keys, TLS."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from live_server import live_server, start
from several_processes import CHAT, LONG, PATH, SEVERAL, answered_by, client_of, fronts_of, reading, until


@pytest.fixture(scope="module")
def words(tiny_words: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny_words, *SEVERAL)


async def test_sigterm_lets_every_process_end_what_it_answers(words: tuple[str, ...]) -> None:
    with live_server(*words) as server:
        async with client_of(server) as client:
            streams = [asyncio.create_task(reading(client, {**LONG, "max_tokens": 600})) for _ in range(6)]
            await until(lambda: server.figure("deployer_sequences_running") == 6, "they did not start")
            server.process.send_signal(signal.SIGTERM)
            ends = await asyncio.gather(*streams)
        assert all("data: [DONE]" in text for text in ends)
        assert server.process.wait(20) == 0
        assert fronts_of(server) == [] and server.engine_pid() is None
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
        left = [*fronts_of(server), server.engine_pid()]
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
            os.kill(min(fronts_of(server)), signal.SIGKILL)
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
