"""What a loop does differently while a step is under way; all that must stay the same: test_engine_loop."""

import pytest
from loop_engine import LoopEngine
from watched_runner import WatchedRunner

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Abort


def test_a_step_is_launched_before_the_results_of_the_last_one_are_read(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    one.submit([1, 2, 3], max_new_tokens=3)
    one.run()
    assert runner.calls == ["launch", "launch", "fetch", "launch", "fetch", "fetch"]


def test_a_device_that_works_while_the_host_waits_is_not_overlapped(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels)
    runner = WatchedRunner.of(one)
    one.submit([1, 2, 3], max_new_tokens=2)
    one.run()
    assert runner.calls == ["launch", "fetch"] * 2


def test_a_row_that_depends_on_its_last_tokens_holds_the_choice_up_alone(
    pixels: PixelFiles,
) -> None:
    free = LoopEngine(pixels, overlap=False)
    name = free.submit([1, 2, 3], max_new_tokens=12)
    free.run()
    bad = tuple(free.tokens[name][3:6])
    expected = free.submit([1, 2, 3], max_new_tokens=12, bad_sequences=(bad,))
    free.run()
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    kept = one.submit([1, 2, 3], max_new_tokens=12, bad_sequences=(bad,))
    one.run()
    assert one.tokens[kept] == free.tokens[expected] != free.tokens[name]
    assert runner.calls[:5] == ["launch", "choose", "launch", "fetch", "choose"]
    assert len(runner.calls) == 3 * 12


def test_a_forbidden_token_alone_does_not_hold_it_up(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    name = one.submit([1, 2, 3], max_new_tokens=3)
    one.run()
    banned = one.submit([1, 2, 3], max_new_tokens=3, bad_sequences=((one.tokens[name][0],),))
    del runner.calls[:]
    one.run()
    assert one.tokens[name][0] not in one.tokens[banned]
    assert runner.calls[:2] == ["launch", "launch"]


def test_a_lost_result_fails_its_sequences_and_one_that_came_later_goes_on(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    alone = LoopEngine(pixels, overlap=False)
    expected = alone.submit([4, 5, 6], max_new_tokens=5)
    alone.run()
    bad = one.submit([1, 2, 3], max_new_tokens=5)
    one.step()
    good = one.submit([4, 5, 6], max_new_tokens=5)
    runner.failing_fetch = 1
    one.run()
    assert one.failed(bad).code == "engine_error"
    assert one.done(good).finish_reason == "length"
    assert one.tokens[good] == alone.tokens[expected]


def test_what_a_lost_device_ended_is_answered_with_its_fault_before_all_others(
    pixels: PixelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    bad = one.submit([1, 2, 3], max_new_tokens=5)
    one.step()
    other = one.submit([4, 5, 6], max_new_tokens=5)
    runner.failing_fetch = 1

    def lost() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(runner, "check_device", lost)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        one.step()
    one.take(one.loop.fail_all("the engine failed"))
    assert one.failed(bad).message.startswith("a step failed: the engine's log has the cause under fault ")
    assert one.failed(other).message == "the engine failed"


def test_nothing_comes_for_a_sequence_that_was_aborted_with_a_step_under_way(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    name, other = one.submit([1, 2, 3], max_new_tokens=9), one.submit([4, 5], max_new_tokens=9)
    for _ in range(3):
        one.step()
    one.take(one.loop.abort(Abort(request_id=name)))
    one.run()
    assert len(one.tokens[name]) == one.done(name).usage.output_tokens < 9
    assert len(one.tokens[other]) == 9


def test_an_end_that_only_the_device_knew_costs_a_row_and_no_token(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    name = one.submit([1, 2, 3], max_new_tokens=6)
    one.run()
    eos = one.tokens[name][2]
    steps = one.loop.stats().steps
    again = one.submit([1, 2, 3], max_new_tokens=6, eos_token_ids=(eos,))
    one.run()
    assert one.tokens[again] == one.tokens[name][: one.tokens[name].index(eos)]
    assert one.done(again).stop_token_id == eos
    assert one.loop.stats().output_tokens == len(one.tokens[name]) + len(one.tokens[again])
    assert one.loop.stats().steps == steps + len(one.tokens[again]) + 2
