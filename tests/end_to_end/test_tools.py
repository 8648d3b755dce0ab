"""Random weights that must call a tool do so, through a template of one's own that knows tools."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live_server import LiveServer, live_server

TEMPLATE = """
{%- from "_text.jinja" import text_of -%}
{%- set image_token = "<IMG_CONTEXT>" -%}
{%- set tool_format = "hermes" -%}
{{- tools|tojson if tools -}}
{%- for one in messages %}[{{ one.role }}]{{ text_of(one.content) }}{{ one.tool_calls|tojson }}{% endfor -%}
"""
MOVE: Any = {
    "type": "function",
    "function": {
        "name": "move",
        "parameters": {
            "type": "object",
            "properties": {
                "to": {"enum": ["left", "right"]},
                "steps": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["to", "steps"],
            "additionalProperties": False,
        },
    },
}
STOP: Any = {
    "type": "function",
    "function": {"name": "stop", "parameters": {"type": "object", "maxProperties": 0}},
}
ASK: list[Any] = [{"role": "user", "content": "Go on"}]


@pytest.fixture(scope="module")
def tooled(tiny_words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    own = tmp_path_factory.mktemp("template") / "own.jinja"
    own.write_text(TEMPLATE, encoding="utf-8")
    with live_server(*tiny_words, f"chat_template.file={Path(own)}") as running:
        yield running


@pytest.fixture
async def client(tooled: LiveServer) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{tooled.url}/v1", api_key="none", max_retries=0) as api:
        yield api


def check_move(arguments: str) -> None:
    found = json.loads(arguments)
    assert found["to"] in ("left", "right") and found["steps"] <= 9


async def test_a_named_function_is_called_with_its_arguments(client: openai.AsyncOpenAI) -> None:
    found = await client.chat.completions.create(
        model="tiny", messages=ASK, tools=[MOVE, STOP], max_tokens=500, seed=1,
        tool_choice={"type": "function", "function": {"name": "move"}},
    )  # fmt: skip
    choice = found.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "move"
    check_move(call.function.arguments)


async def test_a_stream_of_a_required_call_adds_up(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny", messages=ASK, tools=[MOVE, STOP], max_tokens=900, seed=2, tool_choice="required",
        parallel_tool_calls=False, stream=True,
    )  # fmt: skip
    names, arguments = [], ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
    assert names in (["move"], ["stop"])
    if names == ["move"]:
        check_move(arguments)
    else:
        assert json.loads(arguments) == {}
