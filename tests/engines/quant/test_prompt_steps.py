import torch
from plan_cases import spec

from engines.quant.prompt_steps import CalibrationPrompt, batches, judged_rows, prompt_step

DECODER = spec("1b").decoder


def prompt(length: int, *, answer_start: int = 0) -> CalibrationPrompt:
    return CalibrationPrompt(token_ids=tuple(range(1, length + 1)), images=(), answer_start=answer_start)


def test_prompts_of_like_length_run_together_and_none_is_lost() -> None:
    prompts = [prompt(length) for length in (5, 40, 7, 38, 6, 200)]
    found = batches(prompts, num_tokens=80)
    assert found == [[5], [1, 3], [2, 4, 0]]
    assert sorted(number for batch in found for number in batch) == list(range(len(prompts)))


def test_a_prompt_attends_to_itself_alone() -> None:
    some = [prompt(20), prompt(17)]
    attention = prompt_step(DECODER, some, {}, device=torch.device("cpu")).attention
    first, second = (set(attention.slots_T[part].tolist()) for part in (slice(0, 20), slice(20, 37)))
    assert not first & second
    assert attention.q_starts_B1.tolist() == [0, 20, 37]
    assert not set(attention.pages_BP[0].tolist()) & set(attention.pages_BP[1].tolist())


def test_the_rows_that_are_judged_are_those_before_answers_of_each_prompt() -> None:
    some = [prompt(6, answer_start=4), prompt(3)]
    step = prompt_step(DECODER, some, {}, device=torch.device("cpu"))
    assert judged_rows(some, step).tolist() == [3, 4, 6, 7]
