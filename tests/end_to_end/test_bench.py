"""`deploy bench` on the tiny model: both paths, and the same against a server that runs."""

import json
import signal
import subprocess
from typing import Any

from live_server import COMMAND, LiveServer
from own_words import with_own

SMALL = (
    "bench.requests=4", "bench.concurrency=[2]", "bench.output_tokens=8", "bench.prompt_tokens=200",
    "bench.warmup=1", "bench.image_width=60", "bench.image_height=30", "output=json",
)  # fmt: skip


def bench(*words: str) -> dict[str, Any]:
    done = subprocess.run((*COMMAND, "bench", *words, *SMALL), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_engine_and_server_do_the_same_work(tiny_words: tuple[str, ...]) -> None:
    report = bench(*tiny_words)
    rows = {(row["path"], row["image"]): row for row in report["rows"]}
    assert list(rows) == [("engine", False), ("engine", True), ("http", False), ("http", True)]
    for image in (False, True):
        alone, served = rows["engine", image], rows["http", image]
        for name in ("requests", "prompt_tokens", "image_tokens", "output_tokens"):
            assert alone[name] == served[name]
        assert alone["output_tokens"] == 8
        assert served["ttft_p50_ms"] > 0
    assert rows["http", True]["image_tokens"] > 0
    assert len(report["server_overhead"]) == 2
    assert report["about"]["model"] == "local"


def test_a_running_server_is_measured_by_its_address(server: LiveServer, tiny_words: tuple[str, ...]) -> None:
    report = bench(*tiny_words, f"bench.url={server.url}")
    assert [row["path"] for row in report["rows"]] == ["http", "http"]
    assert report["server_overhead"] == []
    assert report["about"]["server"] == server.url


def test_ctrl_c_prints_the_rows_that_are_done_and_says_so(
    server: LiveServer, tiny_words: tuple[str, ...]
) -> None:
    own = ("bench.images=without", "bench.concurrency=[1,2]", "bench.output_tokens=200")
    words = (*tiny_words, f"bench.url={server.url}", *with_own(SMALL, own))
    process = subprocess.Popen(
        (*COMMAND, "bench", *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while (line := process.stderr.readline()) and not line.startswith("http: 2 at once"):
        pass  # the second row begins when the first is done
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: 1 row done, the others are missing" in err
    report = json.loads(out)
    assert [row["concurrency"] for row in report["rows"]] == [1]
    assert report["about"]["interrupted"].startswith("1 row done")
