"""A LoRA adapter is a model of its own to clients: listed, asked for by name, named in the answer."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from serving import make_service

from deployer.serve.app import create_app

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def adapted(engine: FakeEngine) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(create_app(make_service(engine, adapters=("french", "legal"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_adapters_are_listed_with_the_model_that_they_change(adapted: httpx.AsyncClient) -> None:
    cards = (await adapted.get("/v1/models")).json()["data"]
    assert [(card["id"], card["parent"]) for card in cards] == [
        ("tiny", None), ("french", "tiny"), ("legal", "tiny")
    ]  # fmt: skip
    assert (await adapted.get("/v1/models/french")).json()["id"] == "french"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
async def test_the_name_of_a_request_chooses_the_adapter(
    adapted: httpx.AsyncClient, engine: FakeEngine, path: str, body: dict[str, Any]
) -> None:
    for name, adapter in (("french", "french"), ("tiny", None)):
        answer = await adapted.post(path, json={**body, "model": name})
        assert answer.status_code == 200 and answer.json()["model"] == name
        assert engine.submits[-1].adapter == adapter
    stream = await adapted.post(path, json={**body, "model": "legal", "stream": True})
    assert '"model":"legal"' in stream.text and engine.submits[-1].adapter == "legal"


async def test_another_name_is_a_404_that_lists_what_there_is(adapted: httpx.AsyncClient) -> None:
    answer = await adapted.post("/v1/chat/completions", json={"model": "german", "messages": MESSAGES})
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert message == "model `german` is not served here: `tiny`, `french`, `legal` are"
