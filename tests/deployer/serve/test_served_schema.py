"""What /openapi.json says of the model that is served."""

import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from deployer.prompt.tool_format import tool_formats
from deployer.serve.app import create_app
from deployer.serve.served_schema import numbers_below
from deployer.serve.service import Service

HELLO = {"role": "user", "content": "Hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "look"}}
ITEM = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}


@pytest.fixture
def fits(serve: Callable[..., Service]) -> Callable[..., bool]:
    """Return a function that tells whether a body fits the schema of a server, with tools or without."""

    def of(name: str, body: dict[str, Any], *, tools: bool = False) -> bool:
        service = serve()
        if tools:
            service.prompts.tool_format = next(iter(tool_formats().values()))
        described = create_app(service).openapi()
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        return jsonschema_rs.is_valid(schema, body)

    return of


@pytest.mark.parametrize(
    ("name", "body", "of_id"),
    [
        ("CompletionBody", {}, lambda token_id: {"prompt": [0, token_id]}),
        ("CompletionBody", {}, lambda token_id: {"prompt": [[token_id]]}),
        ("ChatBody", {"messages": [HELLO]}, lambda token_id: {"stop_token_ids": [token_id]}),
        ("ChatBody", {"messages": [HELLO]}, lambda token_id: {"bad_token_ids": [token_id]}),
        ("ChatBody", {"messages": [HELLO]}, lambda token_id: {"logit_bias": {str(token_id): 1.0}}),
        ("DetokenizeBody", {}, lambda token_id: {"tokens": [token_id]}),
    ],
)
def test_token_ids_end_where_the_vocabulary_does(
    fits: Callable[..., bool], name: str, body: dict[str, Any], of_id: Callable[[int], dict[str, Any]]
) -> None:
    assert fits(name, {**body, **of_id(257)})
    assert not fits(name, {**body, **of_id(258)})


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("ChatBody", {"messages": [HELLO]}, "max_tokens"),
        ("ChatBody", {"messages": [HELLO]}, "max_completion_tokens"),
        ("CompletionBody", {"prompt": "a"}, "max_tokens"),
        ("ResponseBody", {"input": "a"}, "max_output_tokens"),
    ],
)
def test_an_answer_is_shorter_than_a_session(
    fits: Callable[..., bool], name: str, body: dict[str, Any], field: str
) -> None:
    assert fits(name, {**body, field: 4095})
    assert not fits(name, {**body, field: 4096})


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ChatBody", {"messages": [HELLO], "tools": [TOOL]}),
        ("ChatBody", {"messages": [HELLO], "tools": [TOOL], "tool_choice": "auto"}),
        ("ChatBody", {"messages": [HELLO, {"role": "assistant", "tool_calls": [CALL]}]}),
        ("ChatBody", {"messages": [{"role": "tool", "content": "3", "tool_call_id": "c1"}]}),
        ("TokenizeBody", {"messages": [HELLO], "tools": [TOOL]}),
        ("ResponseBody", {"input": "Hello", "tools": [{"type": "function", "name": "look"}]}),
        ("ResponseBody", {"input": [ITEM]}),
        ("PromptBody", {"input": [{"type": "function_call_output", "call_id": "c1", "output": "3"}]}),
    ],
)
def test_tools_fit_where_the_template_knows_them(
    fits: Callable[..., bool], name: str, body: dict[str, Any]
) -> None:
    assert fits(name, body, tools=True)
    assert not fits(name, body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ChatBody", {"messages": [HELLO], "tools": [], "tool_choice": "none"}),
        ("ChatBody", {"messages": [HELLO, {"role": "assistant", "content": "Hi"}], "tools": None}),
        ("TokenizeBody", {"messages": [HELLO], "tools": []}),
        ("ResponseBody", {"input": [{"role": "user", "content": "Hello"}], "tools": []}),
    ],
)
def test_a_body_without_tools_fits_either_way(
    fits: Callable[..., bool], name: str, body: dict[str, Any]
) -> None:
    assert fits(name, body, tools=True)
    assert fits(name, body)


@pytest.mark.parametrize("end", [1, 2, 10, 11, 100, 101, 258, 1000, 2020])
def test_the_regex_of_numbers_fits_all_below_the_end_and_no_other(end: int) -> None:
    pattern = re.compile(numbers_below(end))
    assert [one for one in range(3 * end + 20) if pattern.fullmatch(str(one))] == list(range(end))
