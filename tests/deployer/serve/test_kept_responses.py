"""The store of responses and what asks it: what goes in comes back, to its owner alone, within the room."""

from typing import Any

import msgspec
import pytest

from deployer.serve.api_errors import ApiError
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.message_types import Message
from deployer.serve.response_store import (
    ForgetResponse,
    ReadResponse,
    ResponseStore,
    StoreAsk,
    StoredResponse,
)

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "max_dynamic_patch": 2}}
TURNS: tuple[dict[str, Any], ...] = (
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [PICTURE, {"type": "text", "text": "Where is «it»?"}]},
    {
        "role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "at", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": ""},
    {"role": "assistant", "content": []},
)


def stored(name: str, size: int, *, owner: str | None = None) -> StoredResponse:
    return StoredResponse(id=name, owner=owner, response=b"x" * size, input_items=b"", messages=b"")


async def test_a_conversation_comes_back_as_it_went_in() -> None:
    messages = [Message.model_validate(turn) for turn in TURNS]
    kept = KeptResponses.here(10_000)
    items = [{"id": "one"}, {"id": "two"}]
    await kept.put({"id": "a", "output": ["ü"]}, owner="me", input_items=items, messages=messages)
    assert await kept.messages("a", owner="me") == messages
    assert await kept.input_items("a", owner="me") == items
    assert msgspec.json.decode(await kept.response("a", owner="me")) == {"id": "a", "output": ["ü"]}
    for asks in (kept.response, kept.messages, kept.delete):
        with pytest.raises(ApiError, match="`a` is not stored: the last 10000 bytes are kept"):
            await asks("a", owner="you")
    await kept.delete("a", owner="me")
    with pytest.raises(ApiError, match="not stored"):
        await kept.response("a", owner="me")


async def test_what_is_larger_than_all_the_room_is_not_sent_to_the_store() -> None:
    asked: list[StoreAsk] = []

    async def ask(one: StoreAsk) -> bytes | None:
        asked.append(one)
        return None

    kept = KeptResponses(50, ask)
    await kept.put({"id": "a", "output": "x" * 50}, owner=None, input_items=[], messages=[])
    assert asked == []


def test_the_room_is_never_more_than_it_is_and_is_given_back() -> None:
    store = ResponseStore(10)
    for name in "abc":
        assert store.take(stored(name, 4)) == b""
    assert store.num_bytes == 8
    assert store.take(ReadResponse(id="a", owner=None, part="response")) is None
    assert store.take(ReadResponse(id="b", owner=None, part="response")) == b"xxxx"
    assert store.take(stored("d", 4)) == b""
    assert store.take(ReadResponse(id="c", owner=None, part="response")) is None, "`b` was used after it"
    assert store.take(stored("e", 11)) is None
    assert store.num_bytes == 8
    assert store.take(ForgetResponse(id="b", owner="another")) is None
    for name in "bd":
        assert store.take(ForgetResponse(id=name, owner=None)) == b""
    assert store.num_bytes == 0
