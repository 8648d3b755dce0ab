"""`deploy bench` on the tiny model: both paths, and the same against a server that runs."""

import json
import subprocess
from typing import Any

from live_server import COMMAND, LiveServer

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
