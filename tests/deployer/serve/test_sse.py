"""How a stream goes out: every message is a write to the socket, so its end is one."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from fake_engine import FakeEngine, Script
from starlette.types import Message, Send

from deployer.serve.app import create_app
from deployer.serve.request_record import BARE_SEND, RequestRecord
from deployer.serve.service import Service
from deployer.serve.sse import DONE, open_stream


async def sent(service: Service, path: str, body: dict[str, Any]) -> list[Message]:
    """Return the messages of an answer as the server gets them from the application."""
    content = json.dumps(body).encode()
    messages: list[Message] = []
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "scheme": "http",
        "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip

    asked = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def receive() -> Message:
        for message in asked:
            return message
        await asyncio.Event().wait()  # the client stays
        raise AssertionError("it waits for ever")

    async def send(message: Message) -> None:
        messages.append(message)

    await create_app(service)(scope, receive, send)
    return messages


CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "hi", "stream": True})]
)
async def test_the_end_of_a_choice_goes_out_with_the_end_of_the_stream(
    serve: Callable[..., Service], engine: FakeEngine, path: str, body: dict[str, Any], usage: bool
) -> None:
    engine.script = lambda _: Script(text="abc")
    start, *parts = await sent(serve(), path, body | {"stream_options": {"include_usage": usage}})
    assert start["status"] == 200
    assert [part["more_body"] for part in parts] == [True, True, True, False], "three tokens and the end"
    end = parts[-1]["body"].decode()
    assert '"finish_reason":"stop"' in end and ('"completion_tokens":3' in end) is usage
    assert end.endswith("data: [DONE]\n\n")


async def test_a_choice_that_ends_before_the_others_says_so_at_once(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.script = lambda asked: Script(text="a" if asked.request_id.endswith("0") else "abcdefgh")
    _, *parts = await sent(serve(), "/v1/chat/completions", CHAT | {"n": 2})
    ends = [number for number, part in enumerate(parts) if b'"finish_reason":"stop"' in part["body"]]
    assert len(ends) == 2 and ends[0] < ends[1] == len(parts) - 1


async def test_a_stream_that_breaks_is_closed_without_its_last_event(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(text="abc", failed=("device_lost", "the device is gone"), fail_after=1)
    _, *parts = await sent(serve(), "/v1/chat/completions", CHAT)
    assert b"the device is gone" in parts[-2]["body"] and parts[-2]["more_body"]
    assert (parts[-1]["body"], parts[-1]["more_body"]) == (b"", False)


async def events_of(log: list[str], *, wait: asyncio.Event | None = None) -> AsyncGenerator[bytes, None]:
    try:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"
        if wait is not None:
            await wait.wait()
        yield b"data: 3\n\n" + DONE
    finally:
        log.append("closed")


def noting(log: list[str], name: str) -> Send:
    async def send(message: Message) -> None:
        body = message.get("body", b"").decode().replace("\n\n", "")
        log.append(f"{name} {message.get('status', body)}")

    return send


async def test_the_layers_see_the_begin_and_the_end_of_a_stream_and_no_event_between() -> None:
    log: list[str] = []
    stream = await open_stream(events_of(log), RequestRecord(id="x", method="POST", path="/"))
    await stream({BARE_SEND: noting(log, "bare")}, no_message, noting(log, "layers"))
    assert log == [
        "layers 200",
        "bare data: 1",
        "bare data: 2",
        "layers data: 3data: [DONE]",
        "closed",
    ]


async def test_cancelling_a_request_closes_what_its_stream_reads() -> None:
    log: list[str] = []
    events = events_of(log, wait=asyncio.Event())
    stream = await open_stream(events, RequestRecord(id="x", method="POST", path="/"))
    request = asyncio.create_task(stream({BARE_SEND: noting(log, "bare")}, no_message, noting(log, "layers")))
    while log[-1:] != ["bare data: 2"]:
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert log[-1] == "closed"


async def no_message() -> Message:
    raise AssertionError("a stream reads nothing of its client")
