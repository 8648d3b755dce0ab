"""Decode steps as rows, against the tensors of the same step."""

from array import array

import numpy as np
import pytest
import torch
from sequences import sequence

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import Sequence
from engines.steps.batch import step_input
from engines.steps.decode_rows import (
    ADAPTER,
    ID,
    KV_LEN,
    PAGES,
    POSITION,
    ROPE_LEN,
    SLOT,
    SOURCE,
    DecodeRows,
    decode_rows,
    is_decode,
)

PAGE = 4


def decoding(num_prompt: int, num_outputs: int, pages: list[int]) -> Sequence:
    one = sequence(list(range(20, 20 + num_prompt)))
    one.token_ids += range(50, 50 + num_outputs)
    one.pages = array("i", pages)
    return one


def last(one: Sequence, *, source_row: int | None = None) -> Chunk:
    return Chunk(sequence=one, start=len(one.token_ids) - 1, num_tokens=1, source_row=source_row)


@pytest.mark.parametrize("by_prompt", [False, True])
def test_rows_say_what_the_tensors_of_the_step_say(by_prompt: bool) -> None:
    turned = decoding(2, 3, [9, 8])
    turned.positions, turned.position_offset = np.zeros((3, 2), dtype=np.int64), -1
    plan = BatchPlan.of([last(decoding(3, 6, [4, 5, 6])), last(turned), last(decoding(4, 1, [7, 2]))], [])
    step = step_input(
        plan, page_tokens=PAGE, device=torch.device("cpu"), features={}, rope_by_prompt=by_prompt
    )
    rows = decode_rows(
        plan, page_tokens=PAGE, rope_by_prompt=by_prompt, last_ids_S=None, pinned=False
    ).rows_BW
    assert rows.dtype == torch.int32
    assert rows[:, ID].tolist() == step.token_ids_T.tolist()
    assert rows[:, POSITION].tolist() == step.positions_T.tolist()
    assert rows[:, ROPE_LEN].tolist() == step.rope_lens_T.tolist()
    assert rows[:, SLOT].tolist() == step.attention.slots_T.tolist()
    assert rows[:, SOURCE].tolist() == [-1, -1, -1]
    assert rows[:, KV_LEN].tolist() == step.attention.kv_lens_B.tolist()
    assert rows[:, PAGES:].tolist() == step.attention.pages_BP.tolist()


def test_a_token_that_only_the_device_knows_has_its_row_of_the_last_step() -> None:
    known, unknown = decoding(3, 2, [1, 2]), decoding(3, 1, [3, 4])
    plan = BatchPlan.of([last(known), Chunk(unknown, 4, 1, 5)], [])
    ids = torch.arange(6)
    rows = decode_rows(plan, page_tokens=PAGE, rope_by_prompt=False, last_ids_S=ids, pinned=False)
    assert rows.rows_BW[:, [ID, SOURCE]].tolist() == [[51, -1], [0, 5]]
    assert rows.last_ids_S is ids
    with pytest.raises(AssertionError, match="no step before"):
        decode_rows(plan, page_tokens=PAGE, rope_by_prompt=False, last_ids_S=None, pinned=False)


def test_a_step_with_a_prompt_is_no_decode_step() -> None:
    one, prompt = decoding(3, 2, [1, 2]), sequence([1, 2])
    assert is_decode(BatchPlan.of([last(one)], []))
    assert not is_decode(BatchPlan.of([last(one), Chunk(prompt, 0, 2)], []))


def test_a_row_names_its_adapter() -> None:
    one, adapted = decoding(3, 2, [1, 2]), decoding(3, 2, [3, 4])
    bare = rows_of([last(one)])
    assert (bare.has_adapters, bare.rows_BW[:, ADAPTER].tolist()) == (False, [-1])
    adapted.adapter = 0
    mixed = rows_of([last(one), last(adapted)])
    assert (mixed.has_adapters, mixed.rows_BW[:, ADAPTER].tolist()) == (True, [-1, 0])


def rows_of(chunks: list[Chunk]) -> DecodeRows:
    plan = BatchPlan.of(chunks, [])
    return decode_rows(plan, page_tokens=PAGE, rope_by_prompt=False, last_ids_S=None, pinned=False)
