"""The engine as a front has it: told by its parent, asked through it."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from sequences import sampling

from deployer.serve.fronts.front_engine import NOTHING_KNOWN, FrontEngine
from deployer.serve.fronts.messages import (
    EngineNow,
    FromFront,
    Replies,
    decode_from_front,
    decode_to_front,
    encode,
)
from engines.errors import EngineDeadError
from engines.messages import Abort, Delta, Failed, Flush, Ready, Reply, Submit

READY = Ready(
    device="cpu", dtype="float32", session_len=64, page_tokens=16, num_pages=4, page_bytes=1,
    bytes_by_part={}, phase_s={},
)  # fmt: skip
NOW: EngineNow = msgspec.structs.replace(NOTHING_KNOWN, state="ready", state_s=5.0, ready=READY)


@pytest.fixture
async def said() -> list[FromFront]:
    return []


@pytest.fixture
async def engine(said: list[FromFront]) -> AsyncIterator[FrontEngine]:
    one = FrontEngine(said.append, changed=lambda: None)
    one.take(NOW)
    yield one
    await one.close()


def submit(name: str = "a") -> Submit:
    return Submit(request_id=name, token_ids=(1,), images=(), sampling=sampling(max_new_tokens=2), priority=0)


async def all_of(engine: FrontEngine, request: Submit) -> list[Reply]:
    return [reply async for reply in engine.submit(request)]


async def test_a_sequence_goes_to_the_parent_and_its_replies_come_back(
    engine: FrontEngine, said: list[FromFront]
) -> None:
    asked = asyncio.create_task(all_of(engine, submit()))
    await asyncio.sleep(0)
    assert said == [submit()]
    replies = [
        Delta(request_id="a", token_ids=(1,), logprobs=()),
        Failed(request_id="a", code="c", message="m"),
    ]
    engine.put_all(replies)
    assert await asked == replies


async def test_what_the_parent_tells_is_what_it_says_and_time_goes_on(engine: FrontEngine) -> None:
    assert (engine.state, engine.ready, engine.stats, engine.fault) == ("ready", READY, None, None)
    assert 5.0 <= engine.state_s < 10.0
    engine.take(msgspec.structs.replace(NOW, state="restarting", back_in_s=0.05, fault="it died"))
    assert engine.back_in_s is not None and engine.back_in_s <= 0.05
    await asyncio.sleep(0.06)
    assert (engine.state, engine.back_in_s, engine.fault) == ("restarting", 0.0, "it died")
    [refused] = await all_of(engine, submit())
    assert (
        isinstance(refused, Failed) and refused.code == "engine_unavailable" and "it died" in refused.message
    )


async def test_leaving_a_stream_and_a_flush_are_told_to_the_parent(
    engine: FrontEngine, said: list[FromFront]
) -> None:
    asked = asyncio.create_task(all_of(engine, submit()))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait((asked,))
    engine.flush()
    assert said[1:] == [Abort(request_id="a"), Flush()]


async def test_at_its_end_open_streams_are_told_and_new_ones_refused(engine: FrontEngine) -> None:
    asked = asyncio.create_task(all_of(engine, submit()))
    await asyncio.sleep(0)
    await engine.close()
    [ended] = await asked
    assert isinstance(ended, Failed) and ended.code == "shutting_down"
    [refused] = await all_of(engine, submit("b"))
    assert isinstance(refused, Failed) and refused.code == "engine_unavailable"


async def test_it_starts_where_the_engine_has_been_ready_also_while_it_is_away() -> None:
    engine = FrontEngine(lambda _: None, changed=lambda: None)
    with pytest.raises(EngineDeadError, match="starting"):
        await engine.start()
    engine.take(msgspec.structs.replace(NOW, state="restarting"))
    await engine.start()
    await engine.close()


def test_messages_survive_the_wire() -> None:
    replies = Replies(replies=[Delta(request_id="a", token_ids=(1, 2), logprobs=())])
    for message in (replies, NOW):
        assert decode_to_front(encode(message)) == message
    for asked in (submit(), Abort(request_id="a"), Flush()):
        assert decode_from_front(encode(asked)) == asked
