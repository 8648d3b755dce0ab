"""Steps that fail, requests that cannot run, and the end of an engine with a step under way."""

import pytest
import torch
from loop_engine import LoopEngine, MakeEngine
from tiny_engine import NAN_ID, RAISES_ID

from engines.ipc.pixel_files import PixelFiles
from engines.steps.host_copy import HostCopy


def test_a_step_that_raises_fails_its_sequences_and_no_others(
    engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    one = engine(max_batch_size=1)
    bad, good = one.submit([RAISES_ID, 1]), one.submit([1, 2, 3], max_new_tokens=2)
    one.run()
    failure = one.failed(bad)
    assert failure.code == "engine_error"
    fault_id = failure.message.rsplit(" ", 1)[1]
    assert fault_id in caplog.text
    assert "this step was told to fail" in caplog.text
    assert one.done(good).finish_reason == "length"


def test_logits_that_are_no_numbers_fail_one_sequence_of_a_step(engine: MakeEngine) -> None:
    one = engine()
    bad = one.submit([NAN_ID, *range(20)])
    good = one.submit([1, 2, 3], max_new_tokens=2)
    one.run()
    assert one.failed(bad).code == "engine_error"
    assert one.done(good).finish_reason == "length"
    assert one.loop.stats().pages_used == 0


def test_a_request_that_cannot_run_is_answered_at_once(engine: MakeEngine) -> None:
    one = engine(session_len=16)
    name = one.submit(range(16))
    assert one.failed(name).code == "context_length_exceeded"
    assert not one.loop.has_work


def test_fail_all_answers_everybody(engine: MakeEngine) -> None:
    one = engine(max_batch_size=1)
    names = [one.submit([1, 2]), one.submit([3, 4])]
    one.step()
    one.take(one.loop.fail_all("enough"))
    assert [one.failed(name).message for name in names] == ["enough", "enough"]
    assert not one.loop.has_work


@pytest.mark.parametrize("fault", [None, "an illegal access"])
def test_fail_all_waits_for_what_the_device_still_writes(
    fault: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pixels, wait = PixelFiles(), HostCopy.wait
    one = LoopEngine(pixels, overlap=True)
    name = one.submit([1, 2, 3], logprobs=2, prompt_logprobs=1)
    one.step()
    assert one.tokens[name] == [], "its first step is under way"
    waited: list[HostCopy] = []

    def waits(copy: HostCopy) -> torch.Tensor:
        waited.append(copy)
        if fault is not None:
            raise RuntimeError(fault)
        return wait(copy)

    monkeypatch.setattr(HostCopy, "wait", waits)
    one.take(one.loop.fail_all("enough"))
    assert len(waited) == (7 if fault is None else 1), "tokens, and of answer and prompt log-probabilities"
    assert (one.failed(name).message, one.tokens[name]) == ("enough", [])
    assert not one.loop.has_work
    assert [record.message for record in caplog.records] == (
        [] if fault is None else [f"the step under way ended with its engine: {fault}"]
    )
    pixels.close()
