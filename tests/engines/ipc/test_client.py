"""One engine process serves all tests of this file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tiny_engine import IMAGE_ID, RAISES_ID, SLOW_ID, ask, client, submit, wait_until

from engines.ipc.client import EngineClient
from engines.messages import Delta, Done, Failed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[EngineClient]:
    one = client()
    await one.start()
    yield one
    await one.close()


async def test_a_sequence_streams_its_tokens_and_ends_once(engine: EngineClient) -> None:
    assert engine.state == "ready"
    assert engine.ready is not None and engine.ready.session_len == 256
    tokens, end = await ask(engine, submit(engine, [1, 2, 3], max_new_tokens=5))
    assert isinstance(end, Done)
    assert len(tokens) == end.usage.output_tokens == 5


async def test_an_image_goes_through_shared_memory_and_its_file_is_gone(engine: EngineClient) -> None:
    request = submit(engine, [1] + [IMAGE_ID] * 4, pictures=[(1, 3)], max_new_tokens=2)
    path = Path(request.images[0].pixels[0].path)
    assert path.exists()
    _, end = await ask(engine, request)
    assert isinstance(end, Done) and end.usage.image_tokens == 4
    assert not path.exists()


async def test_two_hundred_requests_at_once_are_all_answered(engine: EngineClient) -> None:
    requests = [submit(engine, [1, 2, n % 80], max_new_tokens=1 + n % 7) for n in range(200)]
    answers = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert all(isinstance(end, Done) for _, end in answers)
    assert [len(tokens) for tokens, _ in answers] == [1 + n % 7 for n in range(200)]


async def test_a_refused_request_fails_with_its_code(engine: EngineClient) -> None:
    _, end = await ask(engine, submit(engine, [1] * 300))
    assert isinstance(end, Failed) and end.code == "context_length_exceeded"


async def test_a_request_id_in_use_is_refused(engine: EngineClient) -> None:
    request = submit(engine, [SLOW_ID], max_new_tokens=200)
    async with aclosing(engine.submit(request)) as replies:
        await anext(replies)
        _, end = await ask(engine, request)
        assert isinstance(end, Failed) and end.code == "invalid_request"


async def test_an_abort_ends_the_stream(engine: EngineClient) -> None:
    request = submit(engine, [SLOW_ID, 2], max_new_tokens=200)
    replies = [reply async for reply in aborted_after_first(engine, request)]
    assert isinstance(replies[-1], Done) and replies[-1].finish_reason == "abort"


async def aborted_after_first(engine: EngineClient, request: Any) -> AsyncIterator[Any]:
    async for reply in engine.submit(request):
        engine.abort(request.request_id)
        yield reply


async def test_a_consumer_that_leaves_aborts_its_sequence(engine: EngineClient) -> None:
    async with aclosing(engine.submit(submit(engine, [SLOW_ID], max_new_tokens=200))) as replies:
        assert isinstance(await anext(replies), Delta)
    task = asyncio.create_task(ask(engine, submit(engine, [SLOW_ID, 2], max_new_tokens=200)))
    await wait_until(lambda: engine.stats is not None and engine.stats.num_running == 1)
    task.cancel()
    await wait_until(lambda: engine.stats is not None and engine.stats.num_running == 0)
    assert engine.stats is not None and engine.stats.pages_used == 0


async def test_a_failed_step_leaves_the_engine_serving(engine: EngineClient) -> None:
    _, end = await ask(engine, submit(engine, [RAISES_ID]))
    assert isinstance(end, Failed) and end.code == "engine_error"
    _, end = await ask(engine, submit(engine, [1], max_new_tokens=1))
    assert isinstance(end, Done)
    assert (engine.state, engine.num_restarts) == ("ready", 0)
