"""How `deploy serve` starts, what it says, and how signals end it."""

import signal
import socket
import threading
import time

import httpx
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


def test_a_second_ctrl_c_ends_at_once_with_130(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words) as server:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=LONG) as reply:
            next(reply.iter_lines())
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


def test_ctrl_c_while_the_model_loads_ends_with_130(tiny_words: tuple[str, ...]) -> None:
    process = start(*tiny_words, "server.port=0")
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said


def test_a_port_in_use_is_told_before_anything_is_loaded(tiny_words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refusal(*tiny_words, f"server.port={port}")
    assert code == 6
    assert f"error: server.port={port}: in use on 127.0.0.1; " in said
    assert "engine" not in said


def test_an_address_of_another_machine_is_refused(tiny_words: tuple[str, ...]) -> None:
    code, said = refusal(*tiny_words, "server.port=0", "server.host=192.0.2.1")
    assert code == 6
    assert "error: server.host=192.0.2.1: not an address of this machine" in said


def test_a_model_of_a_family_that_cannot_run_yet_says_so() -> None:
    code, said = refusal("+model=pocket_vl", "model.family=novel", "server.port=0")
    assert code == 6
    assert "its family `novel` can be planned and explained, but not run in this version" in said
