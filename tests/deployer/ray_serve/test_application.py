"""`target=ray_serve` on this machine: two replicas of pocket_vl, one of which is killed under load.

Needs Ray: `pip install -e '.[test,ray]' && pytest -m ray`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"),
]
COMMAND = (sys.executable, "-c", "import sys; from deployer.cli import main; sys.exit(main())")
WORDS = (
    "+model=pocket_vl",
    "engine=pytorch",
    "engine.device_type=cpu",
    "engine.num_gpu_blocks=128",
    "engine.max_batch_size=4",
    "target=ray_serve",
    "target.min_replicas=2",
    "target.max_replicas=2",
    "target.cpus_per_rank=0.5",
)
START_S = 90.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """Run `deploy target=ray_serve` until its line `ready`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("ray") / "log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    with log.open("w") as out:
        process = subprocess.Popen(
            (*COMMAND, *WORDS, f"server.port={port}"), stdout=out, stderr=subprocess.STDOUT, env=environment
        )
    try:
        deadline = time.monotonic() + START_S
        while "\nready " not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(40) == 0, log.read_text()
        finally:
            process.kill()


def ask(url: str, text: str, **fields: Any) -> httpx.Response:
    body = {
        "model": "pocket_vl",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 24,
        **fields,
    }
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def test_a_prompt_goes_where_its_beginning_is(url: str) -> None:
    homes = {text: {ask(url, text).headers["x-replica"] for _ in range(4)} for text in map(str, range(8))}
    assert all(len(replicas) == 1 for replicas in homes.values())
    assert len(set.union(*homes.values())) == 2, "both replicas have work"


def test_a_stream_comes_through_whole(url: str) -> None:
    reply = ask(url, "Hello", stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text.endswith("data: [DONE]\n\n")


def test_errors_are_those_of_the_server(url: str) -> None:
    assert ask(url, "Hello", model="other").status_code == 404
    assert ask(url, "Hello", temperature=-1).status_code == 400
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "pocket_vl"


def test_a_killed_replica_loses_no_request(url: str) -> None:
    expected = {text: ask(url, text).json()["choices"][0]["message"] for text in map(str, range(12))}
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, url, text) for text in expected for _ in range(3)]
        while sum(one.done() for one in asked) < 4:
            time.sleep(0.02)
        assert not all(one.done() for one in asked), "the load is over before the kill"
        os.kill(next(iter(replica_pids())), signal.SIGKILL)
        replies = [one.result() for one in asked]
    assert {reply.status_code for reply in replies} == {200}, [reply.text for reply in replies]
    for text, reply in zip([text for text in expected for _ in range(3)], replies, strict=True):
        assert reply.json()["choices"][0]["message"] == expected[text]


def replica_pids() -> list[int]:
    """Return the processes of the engines' actors; Ray names them by their class."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:  # it ended while we looked
                continue
            if name.startswith(b"ray::ServeReplica") and b":engine" in name:
                found.append(int(folder.name))
    return found
