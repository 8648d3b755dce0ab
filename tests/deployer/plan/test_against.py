"""The plan beside a running server: the arithmetic, and one server for real."""

import json
from dataclasses import replace

import httpx
import pytest
from live_server import live_server

from deployer.cli import main
from deployer.config import load_config
from deployer.config.load import load_option
from deployer.errors import UnavailableError
from deployer.plan.against import compared, traffic_of
from deployer.plan.command import make_plan
from deployer.plan.plan import Plan
from deployer.recipes.lock_file import LockedModel
from deployer.recipes.running import Running, fetch_running
from deployer.verbs import VERBS

PLAN, HARDWARE = VERBS["plan"].groups
Captured = pytest.CaptureFixture[str]


def planned() -> Plan:
    config = load_config(["+model=internvl2_8b", "engine=turbomind"])
    return make_plan(config, load_option(PLAN, "default"), load_option(HARDWARE, "h200"))


def running(plan: Plan) -> Running:
    """Return a server that got what the plan says, but a tenth less of weights."""
    memory = plan.figures.memory
    engine = {
        "bytes_by_part": {
            "weights": int(memory.bytes_of("weights") * 0.9),
            "kv_cache": memory.bytes_of("kv_cache"),
        },
        "page_bytes": memory.page_bytes,
        "num_pages": memory.num_pages,
        "page_tokens": memory.page_tokens,
        "session_len": memory.session_len,
    }
    model = LockedModel(**dict.fromkeys(LockedModel.__dataclass_fields__))  # type: ignore[arg-type]
    return Running(
        schema=1, fingerprint="", config={}, model=model, packages={}, kernels_sha256="", engine=engine
    )


def test_the_difference_is_a_share_of_what_was_planned() -> None:
    plan = planned()
    traffic = traffic_of(
        {
            "deployer_request_seconds_count": 4,
            "deployer_prompt_tokens_total": 400,
            "deployer_image_tokens_total": 100,
            "deployer_images_total": 4,
            "deployer_output_tokens_total": 80,
            "deployer_time_to_first_token_seconds_sum": 0.4,
            "deployer_time_to_first_token_seconds_count": 4,
        }
    )
    assert (traffic.text_tokens, traffic.images, traffic.output_tokens) == (75, 1, 20)
    rows = {row.name: row for row in compared(plan, running(plan), traffic)}
    assert rows["weights"].difference == pytest.approx(-0.1, rel=1e-6)
    assert rows["KV pages"].difference == 0
    first = rows["first token, alone in the plan"]
    assert first.measured == pytest.approx(100) and first.planned is not None
    assert rows["a token, alone in the plan"].measured is None
    assert rows["a token, alone in the plan"].difference is None


def test_a_server_that_answered_nothing_has_no_times() -> None:
    plan = planned()
    traffic = traffic_of({"deployer_request_seconds_count": 0})
    assert (traffic.requests, traffic.first_token_ms) == (0, None)
    rows = {row.name: row for row in compared(plan, running(plan), replace(traffic))}
    assert rows["first token, alone in the plan"].planned is None


def test_a_running_server_is_held_against_its_own_plan(capsys: Captured) -> None:
    words = ("+model=pocket_vl", "engine=pytorch", "engine.num_gpu_blocks=16", "engine.session_len=512")
    with live_server(*words, "server.api_keys=[k]") as server:
        headers = {"authorization": "Bearer k"}
        body = {"model": "pocket_vl", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        assert httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers).status_code == 200
        assert main(["plan", "--against", server.url, "api_key=k", "output=json"]) == 0
        told = json.loads(capsys.readouterr().out)
        rows = {row["name"]: row for row in told["rows"]}
        assert (told["hardware"], told["traffic"]["requests"]) == ("cpu", 1)
        for name in ("KV pages", "one KV page", "tokens that the pages hold", "longest sequence"):
            assert rows[name]["difference"] == 0, name
        assert 0.9 < rows["weights"]["measured"] / rows["weights"]["planned"] < 2, "resident bytes on a CPU"
        assert rows["first token, alone in the plan"]["measured"] > 0
        assert main(["plan", f"against={server.url}", "api_key=k"]) == 0
        out = capsys.readouterr().out
        assert "means over 1 answered requests" in out and "on a CPU weights are resident bytes" in out
        assert rows["workspace of the largest step"]["measured"] is None
        assert main(["plan", "--against", server.url]) == 6
        assert "the server wants an API key" in capsys.readouterr().err
        assert main(["plan", "--against", server.url, "api_key=k", "+model=pocket_vl"]) == 3
        assert (
            "`+model=pocket_vl`: the server tells its own deployment; leave it out" in capsys.readouterr().err
        )


def test_a_server_whose_engine_is_not_up_says_when_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(503))
    with pytest.raises(UnavailableError, match=r"ask again once http://here:1/ready answers 200"):
        fetch_running("http://here:1")
