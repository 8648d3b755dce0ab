"""The implementation of the pipeline against an engine that answers from a script."""

import asyncio
import logging
from contextlib import aclosing

import pytest
from fake_engine import FakeEngine, Script
from offline import fake_pipeline

from deployer import GenerationConfig, Response
from deployer.offline.async_pipeline import AsyncPipeline
from engines.errors import EngineError, RequestError


async def test_nothing_runs_where_a_prompt_is_at_fault(fake: AsyncPipeline, engine: FakeEngine) -> None:
    for prompts in (["a", 3], ["a", ("b", "http://host/x.png")], ["a", [{"role": "user"}]]):
        with pytest.raises(RequestError, match=r"^prompts\[1\]: "):
            await fake(prompts)
    with pytest.raises(RequestError, match=r"^prompts\[0\]: .*token ids end at 257\n"):
        await fake(["a", "b"], GenerationConfig(stop_token_ids=[300]))
    assert engine.submits == []


async def test_at_most_ten_faults_are_listed(fake: AsyncPipeline) -> None:
    with pytest.raises(RequestError, match=r"and 4 more$") as caught:
        await fake([1] * 14)
    assert len(str(caught.value).splitlines()) == 11


async def test_faults_of_every_kind_are_named_together(fake: AsyncPipeline) -> None:
    with pytest.raises(RequestError) as caught:
        await fake(["a", 3, "b" * 20_000, ("c", 7)])
    faulty = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert faulty == ["prompts[1]", "prompts[2]", "prompts[3]"]


async def test_an_answer_that_fails_ends_the_batch(engine: FakeEngine) -> None:
    engine.script = lambda submit: (
        Script(failed=("engine_error", "no more pages"), pause_s=0.01)
        if b"second" in bytes(submit.token_ids)
        else Script(endless=True, pause_s=0.001)
    )
    async with fake_pipeline(engine) as pipe:
        with pytest.raises(RequestError, match=r"^prompts\[1\]: no more pages$") as caught:
            await pipe(["first", "second", "third"])
        assert caught.value.code == "engine_error"
        assert engine.running == 0
        assert len(engine.left_early) == 2


async def test_a_picture_that_breaks_when_decoded_is_named(fake: AsyncPipeline) -> None:
    with pytest.raises(RequestError, match=r"^prompts\[1\]: image 1: damaged$"):
        await fake(["fine", "broken"])
    with pytest.raises(RequestError, match=r"^image 1: damaged$"):
        await fake("broken")


async def test_all_pictures_that_break_when_decoded_are_named(engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    async with fake_pipeline(engine, max_batch_size=1) as pipe:
        with pytest.raises(RequestError) as caught:
            await pipe(["fine", "broken", "fine", "broken", "broken"])
        assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
            f"prompts[{place}]" for place in (1, 3, 4)
        ]
        assert caught.value.code == "image_unreadable"
        assert engine.running == 0
        with pytest.raises(RequestError, match=r"the pictures of \d+ more prompts were not decoded$"):
            await pipe(["broken"] * 17)


async def test_leaving_a_stream_aborts_its_sequences(engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    async with fake_pipeline(engine) as pipe:
        async with aclosing(pipe.stream_infer(["a", "b"])) as stream:
            async for response in stream:
                assert response.finish_reason is None
                break
        assert engine.running == 0
        assert len(engine.left_early) == 2


async def test_a_cancelled_call_aborts_its_sequences(engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    async with fake_pipeline(engine) as pipe:
        call = asyncio.create_task(pipe(["a", "b", "c"]))
        while engine.running < 3:
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert engine.running == 0


async def test_a_large_batch_keeps_the_engine_busy_and_no_busier(engine: FakeEngine) -> None:
    most = 0

    def script(_: object) -> Script:
        nonlocal most
        most = max(most, engine.running)
        return Script(text="ok", pause_s=0.001)

    engine.script = script
    async with fake_pipeline(engine, max_batch_size=4) as pipe:
        found = await pipe([f"prompt {i}" for i in range(60)])
    assert isinstance(found, list)
    assert [one.index for one in found] == list(range(60))
    assert most == 8  # twice the batch


async def test_calls_run_side_by_side(engine: FakeEngine) -> None:
    engine.gate = asyncio.Event()
    async with fake_pipeline(engine) as pipe:
        calls = [asyncio.create_task(pipe(text)) for text in ("a", "b")]
        while engine.running < 2:
            await asyncio.sleep(0.005)
        engine.gate.set()
        found = await asyncio.gather(*calls)
    assert all(isinstance(one, Response) and one.text == "It is a red circle." for one in found)


async def test_it_starts_once_and_closes_as_often_as_one_likes(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = fake_pipeline(engine)
    with pytest.raises(EngineError, match="not open"):
        await pipe("a")
    with caplog.at_level(logging.WARNING):
        await pipe.start()
    assert "the checkpoint counts" in caplog.text
    await pipe.close()
    await pipe.close()
    assert engine.closed
    with pytest.raises(EngineError, match="not open"):
        await pipe("a")


async def test_an_engine_that_does_not_start_is_closed(engine: FakeEngine) -> None:
    engine.fault = "no memory"
    with pytest.raises(EngineError, match="no memory"):
        await fake_pipeline(engine).start()
    assert engine.closed


async def test_pictures_of_a_turn_are_read_once(fake: AsyncPipeline, engine: FakeEngine) -> None:
    session = await fake.chat(("What is this?", "data:image/png;base64,AA"))
    session = await fake.chat("And this?", session)
    assert session.response.text == "It is a red circle."
    assert len(session.messages) == 4
    assert bytes(t for t in engine.submits[1].token_ids if t < 256).endswith(b"user:And this?")
    with pytest.raises(RequestError, match="n=2: a turn"):
        await fake.chat("And this?", session, GenerationConfig(n=2))


async def test_a_failed_turn_leaves_the_session_as_it_was(fake: AsyncPipeline, engine: FakeEngine) -> None:
    session = await fake.chat("Hello")
    engine.script = lambda _: Script(failed=("engine_error", "lost"))
    with pytest.raises(RequestError, match="lost"):
        await fake.chat("Again", session)
    engine.script = lambda _: Script(text="Yes")
    assert (await fake.chat("Again", session)).history[-1] == ("assistant", "Yes")


async def test_each_prompt_of_a_batch_goes_through_the_adapter_that_it_asks_for(engine: FakeEngine) -> None:
    asked = [GenerationConfig(adapter=name) for name in ("fr", None, "legal")]
    async with fake_pipeline(engine, adapters=["fr=/data/fr", "legal=/data/legal"]) as pipe:
        await pipe(["one", "two", "three"], asked, progress=False)
        by_prompt = {bytes(submit.token_ids[-3:]): submit.adapter for submit in engine.submits}
        assert by_prompt == {b"one": "fr", b"two": None, b"ree": "legal"}
        with pytest.raises(RequestError, match="adapter `de` is not loaded; there are `fr`, `legal`"):
            await pipe("one", GenerationConfig(adapter="de"), progress=False)
    async with fake_pipeline(engine) as pipe:
        with pytest.raises(
            RequestError, match=r"adapter `fr` is not loaded; there are none: set engine\.adap"
        ):
            await pipe("one", GenerationConfig(adapter="fr"), progress=False)
    with pytest.raises(RequestError, match="adapter='': must be the name of an adapter"):
        GenerationConfig(adapter="")
