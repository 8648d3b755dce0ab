"""What probes, Prometheus and /v1/models see."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from prometheus_client.parser import text_string_to_metric_families

from deployer.serve.app import create_app
from deployer.serve.service import Service

CHAT = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}


async def figures(api: httpx.AsyncClient) -> dict[str, float]:
    text = (await api.get("/metrics")).text
    return {
        sample.name + "".join(f"[{value}]" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_health_follows_the_engine(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = await api.get("/health")
    assert (reply.status_code, reply.json()) == (
        200,
        {"status": "ready", "seconds": 2.0, "phase": None, "restarts": 0, "fault": None},
    )
    assert "retry-after" not in reply.headers
    for state in ("restarting", "dead"):
        engine.state, engine.fault = state, "said nothing for 3 s"
        reply = await api.get("/health")
        assert (reply.status_code, reply.json()["status"]) == (503, state)
        assert reply.json()["fault"] == "said nothing for 3 s"
        assert "retry-after" in reply.headers


async def test_a_request_is_told_when_an_engine_that_is_away_should_be_back(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.state, engine.state_s, engine.back_in_s, engine.fault = "restarting", 1.0, 6.2, "signal 9"
    reply = await api.post("/v1/chat/completions", json=CHAT)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")
    assert reply.json()["error"]["message"].startswith(
        "the engine is restarting, for 1 s: signal 9; come back"
    )
    engine.state, engine.state_s, engine.back_in_s = "dead", 600.0, None
    reply = await api.post("/v1/chat/completions", json=CHAT)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "600")
    assert reply.json()["error"]["message"] == "the engine is dead, for 600 s: signal 9; restart the server"


async def test_the_model_card_tells_length_and_limits(api: httpx.AsyncClient) -> None:
    card = (await api.get("/v1/models")).json()["data"][0]
    assert (card["id"], card["object"], card["max_model_len"]) == ("tiny", "model", 4096)
    assert card["limits"]["max_images"] == 32
    assert (card["limits"]["max_videos"], card["limits"]["max_video_frames"]) == (4, 8)
    assert card["limits"]["max_body_bytes"] == 100_000
    tiles = {
        name: card["limits"][name] for name in ("max_image_tiles", "max_image_tokens", "image_tile_tokens")
    }
    assert (card["type"], card["display_name"], card["created_at"]) == (
        "model", "tiny", "1970-01-01T00:00:01+00:00"
    )  # fmt: skip
    assert tiles == {"max_image_tiles": 3, "max_image_tokens": 12, "image_tile_tokens": 4}
    assert (await api.get("/v1/models/tiny")).json() == card
    assert (await api.get("/v1/models/other")).json()["error"]["code"] == "model_not_found"


async def test_the_root_points_to_the_endpoints(api: httpx.AsyncClient) -> None:
    assert "/v1/chat/completions" in (await api.get("/")).json()["endpoints"]


async def test_metrics_count_requests_tokens_and_times(api: httpx.AsyncClient) -> None:
    for stream in (False, True):
        await api.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    await api.post("/v1/chat/completions", json={})
    await api.get("/nowhere")
    found = await figures(api)
    assert found["deployer_requests_total[200][/v1/chat/completions]"] == 2
    assert found["deployer_requests_total[400][/v1/chat/completions]"] == 1
    assert found["deployer_requests_total[404][other]"] == 1
    assert found["deployer_output_tokens_total"] == 2 * 19
    assert found["deployer_image_tokens_total"] == 2 * 4
    assert found["deployer_images_total"] == 2
    for name in ("time_to_first_token", "time_per_output_token", "request"):
        assert found[f"deployer_{name}_seconds_count"] == 2
    assert found["deployer_requests_in_flight"] == 0


async def test_metrics_show_the_cpu_time_of_the_server_itself(api: httpx.AsyncClient) -> None:
    def seconds(text: str) -> float:
        (line,) = (one for one in text.splitlines() if one.startswith("process_cpu_seconds_total "))
        return float(line.split()[1])

    before = seconds((await api.get("/metrics")).text)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert seconds((await api.get("/metrics")).text) >= before + 0.03  # it counts in hundredths


LONG = {"model": "tiny", "max_tokens": 5000}
SAYS = {**LONG, "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", SAYS),
        ("/v1/completions", {**LONG, "prompt": "q"}),
        ("/v1/messages", SAYS),
        ("/v1/responses", {"input": "q", "max_output_tokens": 5000}),
        ("/generate", {"prompt": "q", "max_tokens": 5000}),
    ],
)
async def test_a_request_whose_answer_does_not_fit_is_no_answer_to_count(
    api: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    reply = await api.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    found = await figures(api)
    assert found[f"deployer_requests_total[400][{path}]"] == 1
    assert found["deployer_request_seconds_count"] == 0


async def test_metrics_show_what_the_engine_says_and_survive_its_absence(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    found = await figures(api)
    assert (found["deployer_engine_up"], found["deployer_sequences_running"]) == (1, 3)
    assert (found["deployer_sequences_waiting"], found["deployer_kv_pages_used"]) == (2, 10)
    assert found["deployer_engine_cached_tokens_total"] == 40
    waited = (found["deployer_engine_wait_seconds_total"], found["deployer_engine_gap_seconds_total"])
    assert waited == (0.25, 0.125)
    engine.state, engine.stats, engine.num_restarts = "restarting", None, 1
    found = await figures(api)
    assert (found["deployer_engine_up"], found["deployer_engine_restarts_total"]) == (0, 1)
    assert "deployer_sequences_running" not in found


async def test_the_docs_describe_every_field_of_the_bodies(api: httpx.AsyncClient) -> None:
    described = (await api.get("/openapi.json")).json()
    schemas = described["components"]["schemas"]
    assert {"messages", "top_k", "repetition_penalty", "stop"} <= set(schemas["ChatBody"]["properties"])
    assert {"prompt", "echo"} <= set(schemas["CompletionBody"]["properties"])
    body = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/ChatBody"


async def test_the_docs_load_nothing_from_elsewhere(api: httpx.AsyncClient) -> None:
    page = await api.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert path.startswith("/static-offline-docs/")
        assert (await api.get(path)).status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert '"validatorUrl": null' in page.text
    assert (await api.get("/redoc")).status_code == 404


async def test_ready_is_no_while_full_and_health_is_yes(serve: Callable[..., Service]) -> None:
    service = serve(max_requests=1)
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        assert (await api.get("/ready")).json()["status"] == "ready"
        entered_s = service.admission.enter()
        full = await api.get("/ready")
        assert (full.status_code, full.json()["status"]) == (503, "full")
        assert int(full.headers["retry-after"]) >= 1
        assert (await api.get("/health")).status_code == 200
        service.admission.leave(entered_s)
        assert (await api.get("/ready")).status_code == 200
        service.admission.held.paused = True
        draining = await api.get("/ready")
        assert (draining.status_code, draining.json()["status"]) == (503, "draining")
