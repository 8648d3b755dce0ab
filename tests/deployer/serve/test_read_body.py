"""Bodies that cannot be served: each answer is a 400 in OpenAI's shape that names the field and the rule."""

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


async def refused(api: httpx.AsyncClient, body: Any, path: str = "/v1/chat/completions") -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await api.post(path, content=content)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize("body", [b"", b"{", b'{"messages": [}', b"\xff\xfe", b"nope", b"[" * 10_000])
async def test_a_body_that_is_not_json_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    assert (await refused(api, body))["message"].startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        (
            "content-encoding",
            "gzip",
            "the body has `content-encoding: gzip`: must be plain JSON, not compressed",
        ),
        (
            "content-type",
            "multipart/form-data; boundary=x",
            "the body is `multipart/form-data`: must be JSON, pictures in it as `data:` URLs",
        ),
    ],
)
async def test_a_body_that_its_headers_say_is_no_plain_json_is_refused_as_that(
    api: httpx.AsyncClient, header: str, value: str, message: str
) -> None:
    path, headers = "/v1/chat/completions", {header: value}
    refused = await api.post(path, content=gzip.compress(json.dumps(CHAT).encode()), headers=headers)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == message
    served = await api.post(path, content=json.dumps(CHAT).encode(), headers=headers)
    assert served.status_code == 200, "a header alone refuses nothing"


@pytest.mark.parametrize("body", [[], 3, None, "x"])
async def test_a_body_that_is_no_object_is_refused(api: httpx.AsyncClient, body: Any) -> None:
    assert (await refused(api, body))["message"] == "the body must be an object"


async def test_an_integer_may_be_written_as_a_number_without_a_fraction(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    written = b'{"prompt": [72.0, 105], "max_tokens": 3.0, "top_k": 1e1, "temperature": 0.5}'
    assert (await api.post("/v1/completions", content=written)).status_code == 200
    (submit,) = engine.submits
    assert submit.token_ids == (72, 105)
    assert (submit.sampling.max_new_tokens, submit.sampling.top_k, submit.sampling.temperature) == (
        3,
        10,
        0.5,
    )
    error = await refused(api, b'{"prompt": [72.0, 105.5], "n": 2.0}', "/v1/completions")
    assert error["message"] == "`prompt[1]`: must be a valid integer, got 105.5"


@pytest.mark.parametrize(
    ("field", "json_value", "rule"),
    [
        ("temperature", "NaN", "finite"),
        ("temperature", "Infinity", "finite"),
        ("temperature", "1e999", "finite"),
        ("temperature", "-0.1", "greater than or equal to 0"),
        ("temperature", "2.1", "less than or equal to 2"),
        ("temperature", '"1"', "valid number"),
        ("temperature", "true", "valid number"),
        ("top_p", "0", "greater than 0"),
        ("top_p", "1.01", "less than or equal to 1"),
        ("store", "0", "valid boolean"),
        ("store", "true", "must be false"),
        ("top_k", "-1", "greater than or equal to 0"),
        ("top_k", "1.5", "valid integer"),
        ("min_p", "-1", "greater than or equal to 0"),
        ("repetition_penalty", "0", "greater than 0"),
        ("presence_penalty", "3", "less than or equal to 2"),
        ("frequency_penalty", "-3", "greater than or equal to -2"),
        ("max_tokens", "0", "greater than or equal to 1"),
        ("max_tokens", "1" + "0" * 30, "less than 9223372036854775808"),
        ("top_k", "1" + "0" * 30, "less than 9223372036854775808"),
        ("max_completion_tokens", "0", "greater than or equal to 1"),
        ("n", "0", "greater than or equal to 1"),
        ("n", "129", "less than or equal to 128"),
        ("seed", "9223372036854775808", "less than"),
        ("seed", '"a"', "valid integer"),
        ("logit_bias", '{"1": 101}', "less than or equal to 100"),
        ("logit_bias", '{"1": NaN}', "finite"),
        ("logit_bias", "[1]", "object"),
        ("stop", "3", "a string or a list of strings"),
        ("stop", '""', "not be empty"),
        ("stop", '["a", 3]', "valid string"),
        ("stop_token_ids", "[-1]", "greater than or equal to 0"),
        ("bad_words", '"no"', "valid array"),
        ("stream", '"yes"', "valid boolean"),
        ("ignore_eos", "1", "valid boolean"),
        ("top_logprobs", "21", "less than or equal to 20"),
        ("user", '"' + "x" * 257 + '"', "256"),
        ("service_tier", '"flex"', "must be `auto` or `default`, got"),
        ("modalities", '["text", "audio"]', "must hold at most 1 item, got"),
        ("metadata", json.dumps({str(key): "x" for key in range(17)}), "must hold at most 16 items, got"),
        ("model", "3", "valid string"),
        ("messages", "[]", "not be empty"),
        ("messages", '"Hi"', "valid array"),
    ],
)
async def test_a_value_out_of_its_type_or_range_is_named(
    api: httpx.AsyncClient, engine: FakeEngine, field: str, json_value: str, rule: str
) -> None:
    rest = "" if field == "messages" else f', "messages": {json.dumps(CHAT["messages"])}'
    error = await refused(api, f'{{"{field}": {json_value}{rest}}}'.encode())
    assert error["param"].startswith(field)
    assert f"`{field}" in error["message"]
    assert rule in error["message"]
    assert engine.submits == []


async def test_an_unknown_field_is_named_with_its_neighbour(api: httpx.AsyncClient) -> None:
    error = await refused(api, {**CHAT, "temprature": 1})
    assert error["message"] == "unknown field `temprature`; known near it: `temperature`"
    assert error["param"] == "temprature"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", []),
        ("prediction", {}),
        ("audio", {}),
    ],
)
async def test_a_field_that_is_not_served_says_so_and_null_passes(
    api: httpx.AsyncClient, field: str, value: Any
) -> None:
    error = await refused(api, {**CHAT, field: value})
    assert error["message"] == f"`{field}` is not served in this version: leave it out"
    reply = await api.post("/v1/chat/completions", json={**CHAT, field: None})
    assert reply.status_code == 200


async def test_unknown_fields_without_a_neighbour_are_told_once_what_the_path_takes(
    api: httpx.AsyncClient,
) -> None:
    message = (await refused(api, {**CHAT, "xyzzy": 1, "do_preprocess": True}))["message"]
    assert message.startswith(
        "unknown field `xyzzy`: leave it out; unknown field `do_preprocess`: leave it out; "
    )
    assert message.count("this path takes `bad_token_ids`, ") == 1


async def test_all_faults_are_named_at_once(api: httpx.AsyncClient) -> None:
    error = await refused(api, {"temperature": 9, "topp": 1})
    for part in ("`messages` is missing", "`temperature`: ", "unknown field `topp`"):
        assert part in error["message"]


@pytest.mark.parametrize(
    ("content", "path", "rule"),
    [
        (3, "messages[0].content", "a string or a list of parts"),
        (None, "messages[0]", "must hold `content`: a string or a list of parts"),
        ([{"type": "video"}], "messages[0].content[0].type", '`text`, `image_url`, `video_url`, got "video"'),
        (
            [{"text": "a"}],
            "messages[0].content[0].type",
            "is missing: must be one of `text`, `image_url`, ",
        ),
        (
            [3],
            "messages[0].content[0]",
            "whose `type` is one of `text`, `image_url`, `video_url`, got 3",
        ),
        ([{"type": "text"}], "messages[0].content[0].text", "missing"),
        ([{"type": "image_url", "image_url": "x"}], "messages[0].content[0].image_url", "object"),
        (
            [{"type": "image_url", "image_url": {"url": "x", "detail": "max"}}],
            "messages[0].content[0].image_url.detail",
            "`auto`, `high`, `medium` or `low`",
        ),
    ],
)
async def test_a_fault_inside_a_message_is_found_by_its_path(
    api: httpx.AsyncClient, content: Any, path: str, rule: str
) -> None:
    error = await refused(api, {"messages": [{"role": "user", "content": content}]})
    assert f"`{path}`" in error["message"]
    assert rule in error["message"]


@pytest.mark.parametrize("prompt", [[], 3, None, [[]], ["a", 3], [1, "a"], [[1], "a"], {}])
async def test_a_prompt_of_another_form_is_refused(api: httpx.AsyncClient, prompt: Any) -> None:
    assert "`prompt" in (await refused(api, {"prompt": prompt}, "/v1/completions"))["message"]


async def test_an_error_never_repeats_a_picture(api: httpx.AsyncClient) -> None:
    url = "data:image/png;base64," + "A" * 5000
    error = await refused(
        api, {"messages": [{"role": "user", "content": [{"type": "image_url", "url": url}]}]}
    )
    assert len(error["message"]) < 400


async def test_a_thousand_faults_give_a_short_answer(api: httpx.AsyncClient) -> None:
    parts = [{"type": "image_url"}] * 1000
    error = await refused(api, {"messages": [{"role": "user", "content": parts}]})
    assert "and 984 more" in error["message"]
    assert len(error["message"]) < 2000


async def test_a_body_over_the_limit_is_a_413_told_by_its_length(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", content=b"x" * 100_001)
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "body_too_large"
    message = reply.json()["error"]["message"]
    assert "server.max_body_bytes" in message and message.endswith("less text, or smaller or fewer images")


async def test_a_body_over_the_limit_is_a_413_also_without_a_length(api: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 10_000_000:
            sent += 1000
            yield b"x" * 1000

    reply = await api.post("/v1/chat/completions", content=endless())
    assert reply.status_code == 413
    assert sent <= 102_000


async def test_a_body_that_says_it_is_too_long_is_not_waited_for(live: Any, engine: FakeEngine) -> None:
    url = (await live()).url
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.close()
