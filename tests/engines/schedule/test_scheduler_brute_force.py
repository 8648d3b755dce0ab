import random

import pytest
from paged_memory import PagedMemory
from random_sequences import check_plan, random_classes, random_heads, random_sequence, reference_output
from scheduling import scheduler
from sequences import sequence


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
        "classes": random_classes(dice) if seed % 2 else (),
    }
    engine = scheduler(
        num_pages=num_pages, page_tokens=page_tokens, prefix_caching=dice.random() < 0.8, **options
    )
    memory = PagedMemory(num_pages, page_tokens)
    heads = random_heads(dice)
    expected = [
        random_sequence(dice, heads, 48, num_classes=max(len(options["classes"]), 1)) for _ in range(30)
    ]
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
