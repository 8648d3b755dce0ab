"""The work of steps, held to counting one by one."""

import random

import pytest
from sequences import sequence

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.steps.phase_work import WorkByPhase


def plan(*chunks: tuple[int, int], prompt: int = 40) -> BatchPlan:
    """A step of chunks [start, start + num) of prompts of so many tokens."""
    found = [Chunk(sequence=sequence([1] * prompt), start=start, num_tokens=num) for start, num in chunks]
    return BatchPlan.of(found, [])


@pytest.mark.parametrize("window", [None, 1, 5, 39])
@pytest.mark.parametrize("seed", range(5))
def test_keys_and_pairs_are_what_each_query_sees(window: int | None, seed: int) -> None:
    dice = random.Random(seed)
    start = dice.randrange(0, 30)
    num = dice.randrange(1, 40 - start + 1)
    work = WorkByPhase(window=window)
    work.add(plan((start, num)))
    seen = [
        range(max(0, 0 if window is None else query + 1 - window), query + 1)
        for query in range(start, start + num)
    ]
    assert work.prefill.pairs == sum(map(len, seen))
    assert work.prefill.keys == len(set().union(*seen))


@pytest.mark.parametrize("window", [None, 1, 5, 39])
def test_keys_that_rows_of_one_sequence_share_count_once(window: int | None) -> None:
    own = Chunk(sequence=sequence([1] * 8), start=8, num_tokens=1)
    work = WorkByPhase(window=window)
    work.add(BatchPlan.of([own, own], [], [own.followed_by([(4, None), (5, None), (6, None)]), []]))
    seen = [range(max(0, 0 if window is None else last - window), last) for last in (9, 10, 11, 12)]
    assert work.decode.rows == 5
    assert work.decode.pairs == sum(map(len, seen)) + len(seen[0])
    assert work.decode.keys == len(set().union(*seen)) + len(seen[0])


def test_rows_of_scored_prompts_go_through_the_head_too() -> None:
    work = WorkByPhase(window=None)
    scored = sequence([1] * 9, prompt_logprobs=0)
    work.add(BatchPlan.of([Chunk(sequence=scored, start=2, num_tokens=7)], []))
    assert work.prefill.sampled == 1 + 6


def test_steps_count_by_phase_and_rows_that_are_sampled_apart() -> None:
    work = WorkByPhase(window=None)
    decode = Chunk(sequence=sequence([1, 2, 3]), start=3, num_tokens=1)
    decode.sequence.token_ids.append(9)
    work.add(BatchPlan.of([decode], []))
    work.add(BatchPlan.of([decode, Chunk(sequence=sequence([1] * 9), start=0, num_tokens=5)], []))
    prefill, decodes = work.figures(prefill_s=2.0, decode_s=1.0)
    assert (decodes.phase, decodes.seconds, decodes.steps, decodes.rows, decodes.sampled) == (
        "decode",
        1.0,
        1,
        1,
        1,
    )
    assert (decodes.keys, decodes.pairs) == (4, 4)
    assert (prefill.phase, prefill.seconds, prefill.steps, prefill.rows, prefill.sampled) == (
        "prefill",
        2.0,
        1,
        6,
        1,
    )
    assert (prefill.keys, prefill.pairs) == (4 + 5, 4 + 15)


@pytest.mark.parametrize("window", [None, 2, 50])
def test_rows_that_decode_see_their_keys_up_to_the_window(window: int | None) -> None:
    lengths = (3, 20, 7)
    chunks = []
    for length in lengths:
        one = sequence([1] * length)
        one.token_ids.append(9)
        chunks.append(Chunk(sequence=one, start=length, num_tokens=1))
    work = WorkByPhase(window=window)
    work.add(BatchPlan.of(chunks, []))
    seen = sum(length + 1 if window is None else min(length + 1, window) for length in lengths)
    assert (work.decode.rows, work.decode.keys, work.decode.pairs) == (3, seen, seen)
