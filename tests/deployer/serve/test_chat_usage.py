"""What a chat is told beside its answer: tokens, times, the log line."""

import httpx
import pytest
from chats import ASK, chat, chunks
from fake_engine import FakeEngine, Script


async def test_usage_comes_last_where_it_is_asked_for(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(cached_tokens=5)
    found = await chunks(api, stream_options={"include_usage": True})
    assert [c["usage"] for c in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["choices"] == []
    usage = found[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 19
    assert usage["prompt_tokens_details"] == {"cached_tokens": 5, "image_tokens": 0}


async def test_stream_options_need_a_stream(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "stream_options": {"include_usage": True}})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "stream_options"


async def test_the_cached_prompt_of_several_choices_counts_once(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(cached_tokens=5)
    answer = await chat(api, n=3)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 5


async def test_usage_says_where_the_time_went_where_it_is_asked_for(api: httpx.AsyncClient) -> None:
    assert "timings" not in (await chat(api))["usage"]
    timings = (await chat(api, timings=True, n=2))["usage"]["timings"]
    assert (timings["queue_ms"], timings["prefill_ms"], timings["decode_ms"]) == (250, 500, 1000)
    assert 0 < timings["prompt_ms"] < timings["total_ms"]
    assert (timings["encode_ms"], timings["fetch_ms"], timings["picture_cut_ms"]) == (125, 0, 0)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    messages = [{"role": "user", "content": [part, part]}]
    timings = (await chat(api, timings=True, messages=messages))["usage"]["timings"]
    stages = ("fetch_ms", "picture_decode_ms", "picture_cut_ms")
    assert tuple(timings[stage] for stage in stages) == (500, 2 * 250, 2 * 125)
    last = (await chunks(api, timings=True, stream_options={"include_usage": True}))[-1]
    assert last["usage"]["timings"].keys() == timings.keys()


async def test_user_and_metadata_stand_in_the_log(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "deployer.serve"):
        await chat(api, user="u-1", metadata={"order": "17"})
    line = caplog.messages[-1]
    assert "user=u-1" in line
    assert 'metadata="{\\"order\\":\\"17\\"}"' in line
