"""`response_format` over HTTP: the grammar that reaches the engine, and the faults."""

import asyncio
import threading
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script

CHAT = {"messages": [{"role": "user", "content": "Where is it?"}]}
BOX = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


async def test_a_schema_reaches_the_engine_as_a_grammar(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "box", "schema": BOX, "strict": True}}
    reply = await api.post("/v1/chat/completions", json={**CHAT, "response_format": form})
    assert reply.status_code == 200, reply.text
    grammar = engine.submits[0].sampling.grammar
    assert grammar is not None and '"required":["x"]' in grammar.replace(" ", "")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_both_routes_take_a_regex(api: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    form = {"type": "regex", "regex": "[0-9]+"}
    ask = CHAT if path.endswith("chat/completions") else {"prompt": "a"}
    assert (await api.post(path, json={**ask, "response_format": form})).status_code == 200
    assert "[0-9]+" in str(engine.submits[0].sampling.grammar)


async def test_text_is_no_grammar(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert (
        await api.post("/v1/chat/completions", json={**CHAT, "response_format": {"type": "text"}})
    ).status_code == 200
    assert engine.submits[0].sampling.grammar is None


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "needs `json_schema`", "response_format"),
        ({"response_format": {"type": "regex", "regex": "(a"}}, "unclosed group", "response_format"),
        ({"response_format": {"type": "yaml"}}, "`response_format.type`", "response_format.type"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "could leave", "ignore_eos"),
        ({"response_format": {"type": "json_object"}, "bad_words": ["a"]}, "could leave", "bad_words"),
    ],
)
async def test_what_cannot_be_enforced_is_a_400(
    api: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, Any], message: str, param: str
) -> None:
    reply = await api.post("/v1/chat/completions", json={**CHAT, **fields})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert message in error["message"]
    assert engine.submits == []


async def test_a_grammar_that_the_engine_gives_up_is_a_400_with_its_reason(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("grammar_failed", "the grammar cannot be followed"))
    form = {"type": "regex", "regex": "ä"}
    reply = await api.post("/v1/chat/completions", json={**CHAT, "response_format": form})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "grammar_failed")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_others_are_answered_while_a_form_is_compiled(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    others_are_answered = threading.Event()
    compiling = threading.Event()

    def compile_slowly(_: object, **__: object) -> None:
        compiling.set()
        assert others_are_answered.wait(20), "the event loop stands still"

    monkeypatch.setattr("deployer.generation.sampling.grammar_of", compile_slowly)
    form: dict[str, Any] = {"response_format": {"type": "json_object"}}
    body = {
        "/v1/chat/completions": {**CHAT, **form},
        "/v1/completions": {"prompt": "Hi", **form},
        "/v1/responses": {"input": "Hi", "text": {"format": {"type": "json_object"}}},
    }[path]
    asking = asyncio.create_task(api.post(path, json=body))
    while not (compiling.is_set() or asking.done()):
        await asyncio.sleep(0.001)
    assert compiling.is_set()
    assert (await api.get("/health")).status_code == 200
    others_are_answered.set()
    assert (await asking).status_code == 200
