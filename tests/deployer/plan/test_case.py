from dataclasses import replace

import pytest
from machines import H200, NO_GPU
from plan_cases import case, hardware, spec

from deployer.config import load_config
from deployer.config.devices import choose_engine
from deployer.plan.case import case_of


@pytest.mark.parametrize(
    ("prompt", "budget", "iters", "step"),
    [
        (3000, None, 32, 8192),  # no budget: as much as a step takes
        (3000, 512, 32, 512),
        (3000, 512, 4, 750),  # four steps must be enough
        (100_000, 512, 4, 8192),  # never above max_prefill_token_num
    ],
)
def test_a_prompt_is_read_in_the_steps_of_the_scheduler(
    prompt: int, budget: int | None, iters: int, step: int
) -> None:
    limits = replace(case().options.scheduler, num_tokens_per_iter=budget, max_prefill_iters=iters)
    what = replace(case(), options=replace(case().options, scheduler=limits))
    assert what.prefill_tokens(prompt) == step


def test_the_largest_step_holds_prompts_and_a_full_batch() -> None:
    assert case().step_tokens == 8192 + 128


def test_the_largest_picture_is_all_tiles_and_the_thumbnail() -> None:
    assert case().image_tokens == 13 * 256
    vision = case().spec.vision
    assert vision is not None
    single = replace(vision, pixels=replace(vision.pixels, max_tiles=1))
    assert replace(case(), spec=replace(case().spec, vision=single)).image_tokens == 256
    assert replace(case(), spec=replace(case().spec, vision=None)).image_tokens == 0


@pytest.mark.parametrize("device", ["h200", "h100", "a100", "l40s", "t4", "v100", "cpu"])
def test_auto_is_planned_as_the_engine_that_starts_on_such_a_device(device: str) -> None:
    config, there = load_config(["+model=internvl2_8b"]), hardware(device)
    machine = NO_GPU
    if there.capability is not None:
        major, minor = there.capability
        machine = replace(NO_GPU, gpus=(replace(H200, capability=(major, minor)),))
    chosen = choose_engine(config.engine, probe=lambda: machine)
    assert case_of(config, spec("8b"), there).options.kind == chosen.kind
