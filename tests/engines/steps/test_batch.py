from array import array

import numpy as np
import torch
from sequences import sequence

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots, Sequence
from engines.steps.batch import step_input
from engines.steps.step import StepInput

PAGE = 4
CPU = torch.device("cpu")


def chunk(one: Sequence, start: int, num_tokens: int, pages: list[int]) -> Chunk:
    one.pages = array("i", pages)
    one.num_computed = start
    return Chunk(sequence=one, start=start, num_tokens=num_tokens)


def image(key: bytes, start: int, num_tokens: int) -> ImageSlots:
    return ImageSlots(key=key, start=start, num_tokens=num_tokens, pixels=None)


def test_a_mixed_step_is_laid_out_as_the_networks_expect_it() -> None:
    decoding = sequence([11, 12, 13])
    decoding.token_ids += [14, 15]
    prompt = sequence([21, 22, 23, 24, 25, 26])
    plan = BatchPlan.of([chunk(prompt, 1, 4, [7, 9]), chunk(decoding, 4, 1, [3, 2])], [])
    step = step_input(plan, page_tokens=PAGE, device=CPU, features={})
    attention = step.attention
    assert attention.num_decodes == 1
    assert step.token_ids_T.tolist() == [15, 22, 23, 24, 25]
    assert step.positions_T.tolist() == [4, 1, 2, 3, 4]
    assert step.rope_lens_T.tolist() == [5, 6, 6, 6, 6]
    assert attention.q_starts_B1.tolist() == [0, 1, 5]
    assert attention.kv_lens_B.tolist() == [5, 5]
    assert attention.pages_BP.tolist() == [[3, 2], [7, 9]]
    assert attention.slots_T.tolist() == [2 * 4, 7 * 4 + 1, 7 * 4 + 2, 7 * 4 + 3, 9 * 4]
    assert (attention.max_q, attention.max_kv) == (4, 5)
    assert step.sample_rows_S.tolist() == [0]
    assert (step.feature_rows_M.tolist(), step.features_MH) == ([], None)


def test_integers_have_the_types_that_kernels_read() -> None:
    step = step_input(
        BatchPlan.of([chunk(sequence([1, 2]), 0, 2, [0])], []), page_tokens=PAGE, device=CPU, features={}
    )
    longs = (step.token_ids_T, step.positions_T, step.rope_lens_T, step.sample_rows_S, step.attention.slots_T)
    ints = (step.attention.q_starts_B1, step.attention.kv_lens_B, step.attention.pages_BP)
    assert {x.dtype for x in longs} == {torch.int64}
    assert {x.dtype for x in ints} == {torch.int32}
    assert all(x.is_contiguous() and x.data_ptr() % 16 == 0 for x in (*longs, *ints))


def test_a_chunk_samples_only_where_it_reaches_the_end_of_its_tokens() -> None:
    whole, part = sequence([1, 2]), sequence([3, 4, 5])
    plan = BatchPlan.of([chunk(whole, 0, 2, [0]), chunk(part, 0, 2, [1])], [])
    assert step_input(plan, page_tokens=PAGE, device=CPU, features={}).sample_rows_S.tolist() == [1]


def test_rows_of_scored_prompts_follow_the_sampled_ones() -> None:
    first, last = (sequence([1, 2, 3, 4, 5], prompt_logprobs=0) for _ in range(2))
    decoding = sequence([6, 7], prompt_logprobs=0)
    decoding.token_ids += [8]
    chunks = [chunk(first, 0, 3, [0]), chunk(last, 3, 2, [1, 2]), chunk(decoding, 2, 1, [3])]
    plan = BatchPlan.of(chunks, [])
    rows_S = step_input(plan, page_tokens=PAGE, device=CPU, features={}).sample_rows_S
    assert [one.num_scored for one in plan.scoring] == [3, 1]
    assert rows_S.tolist() == [0, 5, 1, 2, 3, 4]


def test_the_image_rows_of_a_chunk_are_exactly_those_it_holds() -> None:
    images = (image(b"a", 1, 3), image(b"b", 4, 4))
    one, other = sequence([0] * 10, images=images), sequence([0] * 3, images=(image(b"a", 0, 3),))
    features = {b"a": torch.arange(3.0).unsqueeze(1), b"b": torch.arange(10.0, 14.0).unsqueeze(1)}
    plan = BatchPlan.of([chunk(one, 2, 4, [0, 1]), chunk(other, 0, 2, [2])], [])
    step = step_input(plan, page_tokens=PAGE, device=CPU, features=features)
    assert step.features_MH is not None
    assert step.feature_rows_M.tolist() == [0, 1, 2, 3, 4, 5]
    assert step.features_MH.flatten().tolist() == [1, 2, 10, 11, 0, 1]


def test_a_recomputed_sequence_keeps_the_rotary_length_of_its_prompt() -> None:
    one = sequence([1, 2, 3, 4, 5, 6])
    one.token_ids += [7, 8]
    plan = BatchPlan.of([chunk(one, 0, 8, [0, 1])], [])
    step = step_input(plan, page_tokens=PAGE, device=CPU, features={})
    assert step.rope_lens_T.tolist() == [6, 6, 6, 6, 6, 6, 7, 8]
    assert step.attention.num_decodes == 0


def test_rows_of_an_image_with_texts_between_them_are_laid_out_and_told_from_its_last() -> None:
    sliced = ImageSlots(key=b"a", start=1, num_tokens=7, pixels=None, rows=((1, 2), (4, 2)))
    one = sequence([0] * 9, images=(sliced,))
    features = {b"a": torch.arange(4.0).unsqueeze(1)}
    whole = laid_out(BatchPlan.of([chunk(one, 0, 9, [0, 1, 2])], []), features)
    assert whole.feature_rows_M.tolist() == [2, 3, 5, 6]
    assert whole.inner_rows_E is not None and whole.inner_rows_E.tolist() == [2, 3, 5]
    part = laid_out(BatchPlan.of([chunk(one, 3, 3, [0, 1, 2])], []), features)
    assert part.feature_rows_M.tolist() == [0, 2]
    assert part.features_MH is not None and part.features_MH.flatten().tolist() == [1, 2]
    between = laid_out(BatchPlan.of([chunk(one, 4, 1, [0, 1, 2])], []), features)
    assert (between.features_MH, between.inner_rows_E) == (None, None)


def test_axes_of_positions_end_with_the_prompt() -> None:
    plain, turned = sequence([1, 2, 3]), sequence([1, 2, 3, 4])
    turned.positions = np.array([[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 1, 2]])
    turned.position_offset = -1
    turned.token_ids += [5, 6]
    step = laid_out(BatchPlan.of([chunk(plain, 1, 2, [5]), chunk(turned, 1, 5, [0, 1])], []), {})
    assert step.positions_T.tolist() == [
        [1, 2, 1, 1, 2, 3, 4],
        [1, 2, 1, 2, 2, 3, 4],
        [1, 2, 1, 1, 2, 3, 4],
    ]
    assert step.attention.slots_T.tolist() == [21, 22, 1, 2, 3, 4, 5]
    decode = laid_out(BatchPlan.of([chunk(turned, 5, 1, [0, 1])], []), {})
    assert decode.positions_T.tolist() == [4]
    assert decode.rope_lens_T.tolist() == [6]


def test_positions_of_one_axis_are_a_single_row() -> None:
    shared = sequence([1, 2, 3, 4])
    shared.positions = np.array([[0, 1, 1, 2]])
    step = laid_out(BatchPlan.of([chunk(shared, 0, 4, [0])], []), {})
    assert step.positions_T.tolist() == [0, 1, 1, 2]


def laid_out(plan: BatchPlan, features: dict[bytes, torch.Tensor]) -> StepInput:
    return step_input(plan, page_tokens=PAGE, device=CPU, features=features)
