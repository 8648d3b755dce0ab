"""How `deploy serve` starts, what it says, and how signals end it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from live_server import live_server, start

LONG = {
    "messages": [{"role": "user", "content": "Go on"}],
    "max_tokens": 1500,
    "ignore_eos": True,
    "stream": True,
}


def refusal(*words: str) -> tuple[int, str]:
    """Run a `deploy` that cannot start; return its exit code and what it said."""
    process = start(*words)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def test_it_says_what_runs_and_ends_with_0_on_sigterm(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words, "server.host=0.0.0.0") as server:
        said = "".join(server.lines)
        for part in (
            "model    local",
            "engine   pytorch on cpu",
            "cache    512 pages of 16 tokens",
            "start    ",
        ):
            assert part in said
        assert "warning: server.host=0.0.0.0" in said
        stream: list[str] = []

        def read() -> None:
            with httpx.stream(
                "POST", f"{server.url}/v1/chat/completions", json={**LONG, "max_tokens": 300}
            ) as reply:
                stream.extend(reply.iter_lines())

        reader = threading.Thread(target=read)
        reader.start()
        server.wait_for("deployer_requests_in_flight", 1)
        server.process.send_signal(signal.SIGTERM)
        while httpx.get(f"{server.url}/health").status_code == 200:
            time.sleep(0.01)
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=LONG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert server.process.wait(30) == 0
        reader.join(10)
        assert "data: [DONE]" in stream


@pytest.mark.parametrize("processes", [1, 2])
def test_the_level_of_the_log_is_that_of_the_engine_too(tiny_words: tuple[str, ...], processes: int) -> None:
    words = (*tiny_words, f"server.processes={processes}")
    for level, is_told in (("info", True), ("warning", False)):
        with live_server(*words, f"server.log_level={level}") as server:
            assert any("engine INFO ready on cpu" in line for line in server.lines) is is_told
            assert any(" INFO " in line for line in server.lines) is is_told
            assert server.end() == 0


def test_no_thread_outlives_the_server(tiny_words: tuple[str, ...]) -> None:
    program = (
        "import sys, threading; from deployer.cli import main; code = main(); "
        "forms = [one for one in threading.enumerate() if one.name.startswith('forms')]; "
        "[one.join(5) for one in forms]; print('left', sum(one.is_alive() for one in forms)); "
        "sys.exit(code)"
    )
    with live_server(*tiny_words, command=(sys.executable, "-c", program)) as server:
        body = {"messages": LONG["messages"], "max_tokens": 4, "response_format": {"type": "json_object"}}
        assert httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=30).status_code == 200
        assert server.end() == 0
        while not server.lines[-1].startswith("left"):
            time.sleep(0.01)
        assert server.lines[-1] == "left 0\n", "the threads that check forms of answers"


def test_a_second_ctrl_c_ends_at_once_with_130(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words) as server:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=LONG) as reply:
            lines = reply.iter_lines()  # kept: dropping it would end the request
            next(lines)
            engine = server.engine_pid()
            assert engine is not None
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert server.process.poll() is None
            begun = time.monotonic()
            assert server.end(signal.SIGINT) == 130
            assert time.monotonic() - begun < 3
        assert server.engine_pid() is None
        assert "Traceback" not in "".join(server.lines)


def test_the_second_ctrl_c_answers_who_waits_with_503(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words) as server, ThreadPoolExecutor() as threads:
        url = f"{server.url}/v1/chat/completions"
        whole = [
            threads.submit(httpx.post, url, json={**LONG, "stream": False}, timeout=30) for _ in range(3)
        ]
        streamed = threads.submit(httpx.post, url, json=LONG, timeout=30)
        server.wait_for("deployer_sequences_running", 4)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert server.end(signal.SIGINT, seconds=5) == 130
        for reply in (asked.result() for asked in whole):
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")
            assert "retry-after" in reply.headers
        text = streamed.result().text
        assert '"code":"shutting_down"' in text
        assert "[DONE]" not in text


def test_it_answers_while_it_starts(tiny_words: tuple[str, ...]) -> None:
    process = start(*tiny_words, "server.port=0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listen   http://")
        url = line.split()[1]
        health = httpx.get(f"{url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "starting")
        refused = httpx.post(f"{url}/v1/chat/completions", json=LONG)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/health").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert 'code="503",path="/v1/chat/completions"} 1.0' in httpx.get(f"{url}/metrics").text, (
            "counters go on"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


GRADIO = """
import socket, time
class Page:
    def __init__(self, *_, **how): pass
    def launch(self, server_name, server_port, **how):
        time.sleep(1.5)  # longer than a page needs: whoever says "ready" before it is found out
        self.socket = socket.create_server((server_name, server_port))
        return None, f"http://{server_name}:{server_port}/", None
    def close(self, verbose): self.socket.close()
Textbox = Chatbot = MultimodalTextbox = Accordion = ChatInterface = Page
class themes:
    Default = Page
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_it_is_ready_when_the_port_of_the_chat_listens_too(
    tiny_words: tuple[str, ...], tmp_path: Path, processes: int
) -> None:
    """With a package in Gradio's place that only listens."""
    (tmp_path / "gradio.py").write_text(GRADIO)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    around = {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}
    words = (f"server.processes={processes}", f"server.gradio_port={port}", "server.port=0")
    process = start(*tiny_words, *words, environment=around)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        socket.create_connection(("127.0.0.1", port)).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def catches_sigterm(process: subprocess.Popen[str]) -> bool:
    """Tell whether the command has come so far that it handles signals itself."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 0, "before the server was ready"),
        (signal.SIGHUP, 0, "before the server was ready"),
    ],
)
@pytest.mark.parametrize("is_listening", [False, True])
def test_a_signal_before_the_server_is_ready_ends_it_with_a_word(
    tiny_words: tuple[str, ...], number: signal.Signals, code: int, word: str, is_listening: bool
) -> None:
    process = start(*tiny_words, "server.port=0")
    assert process.stdout is not None
    if is_listening:
        assert process.stdout.readline().startswith("listen ")
    while not catches_sigterm(process):
        time.sleep(0.001)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert word in said


def test_a_port_in_use_is_told_before_anything_is_loaded(tiny_words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refusal(*tiny_words, f"server.port={port}")
    assert code == 6
    assert f"error: server.port={port} (command line `server.port={port}`): in use on 127.0.0.1; " in said
    assert "engine" not in said


def test_an_address_of_another_machine_is_refused(tiny_words: tuple[str, ...]) -> None:
    code, said = refusal(*tiny_words, "server.port=0", "server.host=192.0.2.1")
    assert code == 6
    assert "error: server.host=192.0.2.1 (command line `server.host=192.0.2.1`): not an address" in said


def test_a_model_of_a_family_that_cannot_run_yet_says_so() -> None:
    code, said = refusal("+model=pocket_vl", "model.family=novel", "server.port=0")
    assert code == 6
    assert "its family `novel` can be planned and explained, but not run in this version" in said
