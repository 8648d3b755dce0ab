"""Rules between fields: the description refuses what the server refuses, and nothing else."""

import json
from contextlib import nullcontext
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from deployer.prompt.placement import place
from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody, CompletionBody
from deployer.serve.strict_body import Body
from deployer.serve.token_bodies import PriceBody, TokenizeBody
from engines.errors import RequestError

USER = {"role": "user", "content": "a"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(*messages: Any, **fields: Any) -> tuple[type[Body], dict[str, Any]]:
    return ChatBody, {"messages": list(messages or (USER,)), **fields}


@pytest.mark.parametrize(
    ("kind", "body", "fits"),
    [
        (*chat(), True),
        (*chat({"role": "user"}), False),
        (*chat({"role": "user", "content": None}), False),
        (*chat({**USER, "tool_call_id": "1"}), False),
        (*chat({**USER, "tool_calls": [CALL]}), False),
        (*chat({"role": "assistant", "tool_calls": [CALL]}), True),
        (*chat({"role": "assistant", "content": "a", "tool_calls": [CALL], "tool_call_id": None}), True),
        (*chat({"role": "assistant", "content": None, "tool_calls": None}), False),
        (*chat({"role": "tool", "content": "a", "tool_call_id": "1"}), True),
        (*chat({"role": "tool", "content": "a"}), False),
        (*chat({"role": "tool", "content": "a", "tool_call_id": "1", "name": "f"}), True),
        (*chat({**USER, "name": "f"}), False),
        (*chat({"role": "assistant", "content": "a", "tool_calls": [], "annotations": []}), True),
        (*chat({"role": "assistant", "tool_calls": []}), False),
        (*chat(store=False), True),
        (*chat(store=0), False),
        (*chat(response_format={"type": "text"}), True),
        (CompletionBody, {"prompt": "a", "logit_bias": {"7": 1}}, True),
        (TokenizeBody, {"prompt": "a"}, True),
        (TokenizeBody, {"prompt": "a", "messages": [USER]}, False),
        (TokenizeBody, {"messages": [USER], "prompt": None}, True),
        (TokenizeBody, {}, False),
        (PriceBody, {"images": [{"url": "a"}]}, True),
        (PriceBody, {"images": [{"width": 1, "height": 2}]}, True),
        (PriceBody, {"images": [{"width": 1}]}, False),
        (PriceBody, {"images": [{"url": "a", "width": 1, "height": 2}]}, False),
        (PriceBody, {"images": [{"url": "a", "width": 1}]}, False),
    ],
)
def test_a_body_fits_its_schema_where_it_is_taken(kind: type[Body], body: dict[str, Any], fits: bool) -> None:
    assert jsonschema_rs.is_valid(kind.model_json_schema(), body) == fits
    try:
        kind.model_validate_json(json.dumps(body))
    except ValidationError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"stream": True, "stream_options": {}}, True),
        ({"stream_options": {}}, False),
        ({"stream": False, "stream_options": {}}, False),
        ({"logprobs": True, "top_logprobs": 2}, True),
        ({"top_logprobs": 2}, False),
        ({"response_format": {"type": "json_object"}, "ignore_eos": False, "bad_words": []}, True),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, False),
        ({"response_format": {"type": "text"}, "ignore_eos": True}, True),
        ({"response_format": {"type": "regex", "regex": "a"}, "bad_words": ["a"]}, False),
        ({"response_format": {"type": "regex"}}, False),
        ({"logit_bias": {"a": 1}}, False),
    ],
)
async def test_what_the_schema_refuses_is_a_400_and_what_fits_is_answered(
    api: Any, body: dict[str, Any], fits: bool
) -> None:
    asked = {"messages": [USER], **body}
    assert jsonschema_rs.is_valid(ChatBody.model_json_schema(), asked) == fits
    reply = await api.post("/v1/chat/completions", json=asked)
    assert reply.status_code == (200 if fits else 400)


@pytest.mark.parametrize(
    "role",
    [
        {"role": "user"},
        {"role": "system"},
        {"role": "assistant"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1"},
    ],
)
def test_pictures_stand_where_a_prompt_may_have_them(role: dict[str, Any]) -> None:
    text, picture = {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}
    for content in ("a", [text], [text, picture]):
        calls = [{"role": "assistant", "tool_calls": [CALL]}] if role["role"] == "tool" else []
        body = {"messages": [*calls, {**role, "content": content}]}
        is_right = role["role"] == "user" or content != [text, picture]
        assert jsonschema_rs.is_valid(ChatBody.model_json_schema(), body) == is_right
        *_, message = conversation(ChatBody.model_validate(body).messages, may_end_with_calls=True)
        with nullcontext() if is_right else pytest.raises(RequestError, match="only user messages may"):
            place(message, position=1)
