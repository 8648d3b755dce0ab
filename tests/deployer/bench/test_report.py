"""The table, the JSON, and the difference between the two paths."""

import io
import json
from dataclasses import replace

import pytest

from deployer.bench.machine import machine
from deployer.bench.options import BenchOptions, check_options
from deployer.bench.report import overheads, print_report
from deployer.bench.samples import Figures
from deployer.errors import ConfigError

OPTIONS = BenchOptions(
    name="chat", prompts="chat", through="both", length_sigma=0, also=[],
    concurrency=[1, 8], requests=2, warmup=0, prompt_tokens=10, output_tokens=5, images="both",
    image_width=8, image_height=8, seed=0, url="http://far", model_name=None, api_key="secret", timeout_s=1,
    clients=None,
    output="table",
)  # fmt: skip
ALONE = Figures(
    path="engine", image=False, concurrency=1, requests=2, prompt_tokens=10, image_tokens=0, cached_tokens=0,
    output_tokens=5, ttft_p50_ms=20.0, ttft_p99_ms=30.0, token_p50_ms=4.0, token_p99_ms=5.0,
    request_ms=36.0, output_tokens_per_s=100.0, requests_per_s=20.0,
)  # fmt: skip
HTTP = replace(ALONE, path="http", ttft_p50_ms=23.5, token_p50_ms=4.25, request_ms=40.0)
ROWS = [ALONE, HTTP, replace(HTTP, concurrency=8)]


def test_overhead_is_the_difference_of_rows_with_the_same_work() -> None:
    (added,) = overheads(ROWS)
    assert (added.concurrency, added.ttft_p50_ms, added.token_p50_ms, added.request_ms) == (1, 3.5, 0.25, 4.0)


def test_the_table_names_the_machine_and_has_a_line_a_row() -> None:
    out = io.StringIO()
    print_report(ROWS, {"processor": "P9", "model": "tiny"}, OPTIONS, ready=None, out=out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "processor  P9"
    assert [line.split()[0] for line in lines[4:7]] == ["engine", "http", "http"]
    assert lines[-1].split() == ["http", "-", "engine", "no", "1", "3.5", "0.25", "4.0"]


def test_the_json_holds_the_same_and_no_key() -> None:
    out = io.StringIO()
    print_report(ROWS, {"processor": "P9"}, replace(OPTIONS, output="json"), ready=None, out=out)
    report = json.loads(out.getvalue())
    assert report["about"] == {"processor": "P9"}
    assert [row["path"] for row in report["rows"]] == ["engine", "http", "http"]
    assert report["server_overhead"][0]["ttft_p50_ms"] == 3.5
    assert report["bench"]["requests"] == 2
    assert "secret" not in out.getvalue()


def test_the_machine_is_described() -> None:
    about = machine()
    assert "cores" in about["processor"]
    assert "uvicorn" in about["packages"]
    assert "commit" in about["deployer"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"requests": 0}, "bench.requests=0: must be at least 1"),
        ({"timeout_s": 0}, "bench.timeout_s=0: must be above 0"),
        ({"concurrency": []}, "bench.concurrency="),
        ({"concurrency": [1, 0]}, "bench.concurrency="),
        ({"url": "localhost:1"}, "bench.url=localhost:1: "),
        ({"length_sigma": 1.0}, "bench.length_sigma=1.0: texts are all of one length"),
        ({"also": ["trace"]}, "bench.also=['trace']: goes with bench.prompts=tokens only"),
        ({"prompts": "tokens", "images": "both", "api_key": None}, "bench.images=both: must be with or"),
        ({"prompts": "tokens", "images": "with"}, "bench.images=with: token ids have no picture over HTTP"),
        ({"url": None}, r"bench.api_key=\*\*\*: is said to the server at bench.url, and there is none"),
        (
            {"url": None, "api_key": None, "model_name": "x"},
            "bench.model_name=x: is said to the server at bench.url",
        ),
        ({"clients": 0}, "bench.clients=0: must be at least 1"),
        (
            {"url": None, "api_key": None, "through": "engine", "clients": 2},
            "bench.clients=2: ask over HTTP; use bench.through=http or both",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(change: dict[str, object], fault: str) -> None:
    check_options(OPTIONS)
    with pytest.raises(ConfigError, match=fault.replace("[", r"\[")):
        check_options(replace(OPTIONS, **change))


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(replace(OPTIONS, requests=0, output_tokens=0, warmup=-1))
    assert len(caught.value.faults) == 3
