import random
from typing import Any

import pytest
from paged_memory import VOCABULARY, PagedMemory, next_token, prefix_digests
from scheduling import image, prompt_tokens, scheduler
from sequences import sequence

from engines.batch_plan import BatchPlan
from engines.sequence import Sequence


def random_sequence(dice: random.Random, heads: list[list[int]], longest: int) -> Sequence:
    """A prompt that often begins like others, sometimes with pictures, within what the pool can hold."""
    head = dice.choice(heads)[: dice.randrange(0, 24)]
    prompt = head + [dice.randrange(VOCABULARY) for _ in range(dice.randrange(1, 12))]
    images = []
    start = dice.randrange(0, 6)
    while dice.random() < 0.5 and start + 5 < len(prompt):
        count = dice.randrange(1, 6)
        prompt[start : start + count] = [0] * count
        images.append(image(dice.choice([b"a", b"b"]), start, count))
        start += count + dice.randrange(0, 3)
    return sequence(
        prompt,
        images=tuple(images),
        priority=dice.choice([0, 0, 0, 1]),
        regime=dice.choice([0, 0, 1]),
        max_new_tokens=dice.randrange(1, longest - len(prompt) + 1),
        eos_token_ids=(dice.randrange(VOCABULARY),),
    )


def reference_output(prompt: Sequence) -> list[int]:
    """What the sequence must generate, computed alone and without a cache."""
    copy = sequence(
        prompt.token_ids[: prompt.num_prompt_tokens],
        images=prompt.images,
        max_new_tokens=prompt.sampling.max_new_tokens,
    )
    copy.root_key = prompt.root_key
    while len(copy.token_ids) < prompt.max_tokens:
        token = next_token(prefix_digests(copy)[-1])
        if token in prompt.sampling.eos_token_ids:
            break
        copy.token_ids.append(token)
    return copy.token_ids[prompt.num_prompt_tokens :]


@pytest.mark.parametrize("seed", range(60))
def test_any_mix_of_prompts_images_aborts_failures_and_preemptions_gives_the_reference_output(
    seed: int,
) -> None:
    dice = random.Random(seed)
    page_tokens, num_pages = dice.choice([1, 2, 4, 8]), dice.randrange(12, 40)
    num_pages = max(num_pages, 48 // page_tokens)
    options = {
        "max_batch_size": dice.randrange(1, 7),
        "max_prefill_token_num": dice.choice([1, 5, 16, 64]),
        "num_tokens_per_iter": dice.choice([None, 1, 9]),
        "max_prefill_iters": dice.randrange(1, 5),
    }
    engine = scheduler(
        num_pages=num_pages, page_tokens=page_tokens, prefix_caching=dice.random() < 0.8, **options
    )
    memory = PagedMemory(num_pages, page_tokens)
    heads = [[dice.randrange(VOCABULARY) for _ in range(24)] for _ in range(3)]
    expected = [random_sequence(dice, heads, 48) for _ in range(30)]
    queue, alive, ended = list(expected), set(), set()
    for _ in range(20_000):
        if not queue and not alive:
            break
        while queue and dice.random() < 0.4:
            alive.add(queue[-1])
            engine.add(queue.pop())
        if alive and dice.random() < 0.03:
            gone = dice.choice(sorted(alive, key=lambda one: one.arrival))
            assert engine.remove(gone.request_id) is gone
            alive.remove(gone)
        plan = engine.schedule(0.0)
        engine.check_integrity()
        if plan is None:
            continue
        check_plan(plan, options)
        if dice.random() < 0.02:
            memory.spoil(plan)
            alive -= set(engine.fail(plan))
        else:
            for progress in engine.commit(plan, memory.run(plan)):
                if progress.finish_reason is not None:
                    alive.remove(progress.sequence)
                    ended.add(progress.sequence)
        engine.check_integrity()
    assert not queue and not alive, "somebody starved"
    assert engine.pages_used == 0
    for one in ended:
        assert one.token_ids[one.num_prompt_tokens :] == reference_output(one)


def check_plan(plan: BatchPlan, options: dict[str, Any]) -> None:
    assert len(plan.chunks) <= options["max_batch_size"]
    assert prompt_tokens(plan) <= options["max_prefill_token_num"]
    assert all(chunk.num_tokens == 1 for chunk in plan.chunks[: plan.num_decodes])
    names = [chunk.sequence.request_id for chunk in plan.chunks]
    assert len(set(names)) == len(names)


def test_the_brute_force_meets_preemption_sharing_and_chunking() -> None:
    engine = scheduler(num_pages=12, page_tokens=4, max_prefill_token_num=5)
    memory = PagedMemory(12, 4)
    several = [sequence([1] * 12, max_new_tokens=30) for _ in range(4)]
    for one in several:
        engine.add(one)
    while (plan := engine.schedule(0.0)) is not None:
        engine.commit(plan, memory.run(plan))
    assert engine.num_preemptions > 0
    assert sum(one.cached_tokens for one in several) > 0
    assert all(one.token_ids[12:] == reference_output(one) for one in several)
