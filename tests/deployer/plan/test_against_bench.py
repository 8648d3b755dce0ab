"""The plan beside a file of `deploy bench`: the same deployment, the same rows, faults that are named."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deployer.bench.options import BenchOptions
from deployer.bench.token_samples import TokenRow
from deployer.cli import main
from deployer.config import load_config
from deployer.config.load import load_option
from deployer.plan.command import make_plan
from deployer.recipes.flat import public
from deployer.verbs import VERBS

PLAN, HARDWARE = VERBS["plan"].groups
(BENCH,) = (group for group in VERBS["bench"].groups if group.name == "bench")
Captured = pytest.CaptureFixture[str]

# bfloat16 on one H200 (docs/benchmarks.md)
ROW = TokenRow(
    load="decode",
    concurrency=8,
    requests=8,
    prompt_tokens=1024,
    image_tokens=0,
    cached_tokens=0,
    output_tokens=128,
    seconds=0.72,
    ttft_p50_ms=180.0,
    ttft_p99_ms=180.0,
    token_p50_ms=4.28,
    token_p99_ms=4.3,
    prompt_tokens_per_s=46012,
    decode_tokens_per_s=1869,
    output_tokens_per_s=1422,
    requests_per_s=11.1,
    steps=128,
    step_ms=5.444,
    host_ms=0.853,
    gap_share=0.005,
)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    asked = [
        "+model=internvl2_8b",
        "engine=turbomind",
        "engine.decode_weights=0",
        "engine.max_batch_size=256",
    ]
    config = load_config(asked)
    plan = make_plan(config, load_option(PLAN, "default"), load_option(HARDWARE, "h200"))
    memory = plan.figures.memory
    engine = {
        "device": "cuda:0 (NVIDIA H200)",
        "bytes_by_part": {group: memory.bytes_of(group) for group in ("weights", "workspace", "kv_cache")},
        "page_bytes": memory.page_bytes,
        "num_pages": memory.num_pages,
        "page_tokens": memory.page_tokens,
        "session_len": memory.session_len,
    }
    load: BenchOptions = load_option(BENCH, "decode")
    return {"config": public(config), "engine": engine, "bench": [asdict(load)], "rows": [asdict(ROW)]}


def written(folder: Path, report: Any) -> str:
    path = folder / "bench.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return str(path)


def test_rows_stand_beside_what_the_plan_expects_of_the_same_load(
    tmp_path: Path, report: dict[str, Any], capsys: Captured
) -> None:
    path = written(tmp_path, report)
    assert main(["plan", "--against", path, "output=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in told["rows"]}
    assert told["hardware"] == "h200"
    assert rows["KV pages"]["difference"] == 0
    decode = rows["decode, 8 at once: decode"]
    assert (decode["unit"], decode["measured"]) == ("tok/s", 1869)
    assert abs(decode["difference"]) < 0.05
    assert abs(rows["decode, 8 at once: prompt"]["difference"]) < 0.1
    assert abs(rows["decode, 8 at once: req/s"]["difference"]) < 0.1


def test_a_changed_share_moves_what_is_expected(
    tmp_path: Path, report: dict[str, Any], capsys: Captured
) -> None:
    path = written(tmp_path, report)
    shown = []
    for words in ([], ["hardware=h200", "hardware.shares.linear=[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5]"]):
        assert main(["plan", f"against={path}", *words]) == 0
        shown.append([line for line in capsys.readouterr().out.splitlines() if "8 at once: decode" in line])
    assert shown[0] != shown[1]


def test_a_file_that_cannot_be_compared_says_why(
    tmp_path: Path, report: dict[str, Any], capsys: Captured
) -> None:
    def said(path: str, *words: str) -> str:
        assert main(["plan", "--against", path, *words]) != 0
        return capsys.readouterr().err

    assert "there is no such file; a server's address starts with http://" in said(str(tmp_path / "no.json"))
    assert "it is no object" in said(written(tmp_path, [1]))
    assert "it lacks `bench`, `config`, `engine`" in said(written(tmp_path, {"rows": []}))
    assert "it asked texts" in said(written(tmp_path, {**report, "bench": {}}))
    assert "tells its own deployment; leave it out" in said(written(tmp_path, report), "engine.tp=2")
    old = {**report, "config": {**report["config"], "engine": {}}}
    assert "its config is not one of this version" in said(written(tmp_path, old))
    other = {**report, "engine": {**report["engine"], "device": "cuda:0 (Other 9)"}}
    assert "which conf/hardware does not describe" in said(written(tmp_path, other))
    assert "of which it does not know the engine" in said(written(tmp_path, {**report, "engine": None}))
    loads = [{name: value for name, value in report["bench"][0].items() if name != "through"}]
    assert "its loads are not of this version" in said(written(tmp_path, {**report, "bench": loads}))
    row = asdict(replace(ROW, decode_tokens_per_s=None))
    assert main(["plan", "--against", written(tmp_path, {**report, "rows": [row]})]) == 0


def test_rows_over_http_are_told_from_those_of_the_engine_alone(
    tmp_path: Path, report: dict[str, Any], capsys: Captured
) -> None:
    both = {**report, "rows": [asdict(ROW), asdict(replace(ROW, path="http", server_cores=0.5))]}
    assert main(["plan", "--against", written(tmp_path, both)]) == 0
    shown = capsys.readouterr().out
    assert "decode, 8 at once: decode" in shown
    assert "decode, 8 at once over HTTP: decode" in shown
