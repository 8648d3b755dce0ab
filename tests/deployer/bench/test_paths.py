"""Both ways to ask: the engine alone and a server over HTTP, around the fake engine."""

from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from fake_prompts import IMAGE_TOKENS, FakePrompts

from deployer.bench.offline import EngineBench
from deployer.bench.online import ask_server, chat_ask, ids_ask, served_model, shared_out
from deployer.bench.workload import asks
from deployer.errors import UnavailableError
from engines.errors import EngineError

ASK = asks(1, words=5, size=(8, 8), seed=0, stream="")[0]


async def http_sample(url: str) -> Any:
    async with httpx.AsyncClient(base_url=url) as client:
        return await ask_server(client, chat_ask(await served_model(client), ASK, output_tokens=12))


async def test_the_engine_alone_is_asked_for_exactly_that_many_tokens(engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text="x" * 100, pause_s=0.002, cached_tokens=3)
    prompts: Any = FakePrompts()
    bench = EngineBench(engine=engine, prompts=prompts, output_tokens=12)
    prompts.chat = _with_a_picture(prompts)
    sample = await bench.ask(await bench.prepare(ASK))
    sampling = engine.submits[0].sampling
    assert (sampling.max_new_tokens, sampling.ignore_eos, sampling.temperature) == (12, True, 0)
    assert (sample.output_tokens, sample.image_tokens, sample.cached_tokens) == (12, IMAGE_TOKENS, 3)
    assert sample.ttft_s >= 0.002
    assert sample.token_s >= 0.002
    assert len(engine.seen_pixels) == 1


async def test_a_failed_sequence_fails_the_benchmark(engine: FakeEngine) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "boom"))
    bench = EngineBench(engine=engine, prompts=FakePrompts(), output_tokens=12)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="boom"):
        await bench.ask(await bench.prepare(asks(1, words=5, size=None, seed=0, stream="")[0]))


async def test_a_server_is_asked_for_the_same(live: Any, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text="x" * 100, pause_s=0.002, cached_tokens=3)
    sample = await http_sample((await live()).url)
    sampling = engine.submits[0].sampling
    assert (sampling.max_new_tokens, sampling.ignore_eos, sampling.temperature) == (12, True, 0)
    assert (sample.output_tokens, sample.image_tokens, sample.cached_tokens) == (12, IMAGE_TOKENS, 3)
    assert sample.prompt_tokens == len(engine.submits[0].token_ids)
    assert sample.ttft_s >= 0.002
    assert sample.token_s >= 0.0015


async def test_a_server_is_asked_with_token_ids_and_each_event_is_an_arrival(
    live: Any, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(text="x" * 100, pause_s=0.002, bunch=3)
    async with httpx.AsyncClient(base_url=(await live()).url) as client:
        ask = ids_ask(await served_model(client), [5, 6, 7], output_tokens=12)
        sample = await ask_server(client, ask)
    assert engine.submits[0].token_ids == (5, 6, 7)
    assert engine.submits[0].sampling.max_new_tokens == 12
    assert [count for _, count in sample.arrivals] == [3, 3, 3, 3]
    assert sample.start_s < sample.first_s < sample.last_s


def test_tokens_are_shared_out_over_the_events_that_had_text() -> None:
    assert shared_out(7, [(1.0, 1), (2.0, 2), (3.0, 1)]) == ((1.0, 1), (2.0, 4), (3.0, 2))
    assert shared_out(3, [(9.0, 1)]) == ((9.0, 3),)


@pytest.mark.parametrize("fail_after", [0, 3])
async def test_a_failed_request_fails_the_benchmark(live: Any, engine: FakeEngine, fail_after: int) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "boom"), fail_after=fail_after)
    with pytest.raises(UnavailableError, match="boom"):
        await http_sample((await live()).url)


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(UnavailableError, match="no model listed"):
        await http_sample("http://127.0.0.1:9")


def _with_a_picture(prompts: FakePrompts) -> Any:
    """The fake prompts take data URLs only; a benchmark hands over the picture's bytes."""
    from deployer.prompt.messages import ImagePart, Message

    original = prompts.chat

    async def chat(messages: list[Message]) -> Any:
        parts = tuple(
            ImagePart(source="data:,") if isinstance(part, ImagePart) else part
            for message in messages
            for part in message.parts
        )
        return await original([Message(role="user", parts=parts)])

    return chat
