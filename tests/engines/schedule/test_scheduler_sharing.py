from scheduling import image, prompt_tokens, scheduler, sizes, step
from sequences import sequence


def test_equal_prompts_of_one_step_are_computed_once() -> None:
    engine = scheduler()
    prompt = list(range(21))
    first, *others = (sequence(prompt) for _ in range(4))
    for one in (first, *others):
        engine.add(one)
    plan = step(engine)
    assert [size for _, size in sizes(plan)] == [21, 1, 1, 1]
    assert [one.cached_tokens for one in others] == [20, 20, 20]


def test_equal_long_prompts_share_chunk_after_chunk() -> None:
    engine = scheduler(max_prefill_token_num=8)
    prompt = list(range(40))
    first, second = sequence(prompt, max_new_tokens=1), sequence(prompt, max_new_tokens=1)
    engine.add(first)
    engine.add(second)
    total = 0
    while (plan := step(engine)) is not None:
        total += prompt_tokens(plan)
    assert total <= 40 + 8
    assert second.cached_tokens >= 32


def test_the_last_prompt_token_is_always_computed() -> None:
    engine = scheduler(page_tokens=4)
    prompt = list(range(8))
    for _ in range(2):
        one = sequence(prompt, max_new_tokens=1)
        engine.add(one)
        step(engine)
    assert one.cached_tokens == 4


def test_generated_pages_are_found_by_the_next_turn_of_a_conversation() -> None:
    engine = scheduler(page_tokens=4)
    first = sequence([1, 2, 3], max_new_tokens=10)
    engine.add(first)
    while step(engine) is not None:
        pass
    second = sequence([*first.token_ids, 40, 41], max_new_tokens=1)
    engine.add(second)
    step(engine)
    assert second.cached_tokens == 12


def test_equal_prompts_with_other_pictures_share_only_what_is_before_them() -> None:
    engine = scheduler(page_tokens=4)
    prompt = [1] * 5 + [9] * 10 + [2] * 5
    for key in (b"a", b"b"):
        one = sequence(prompt, images=(image(key, 5, 10),), max_new_tokens=1)
        engine.add(one)
        step(engine)
    assert one.cached_tokens == 4


def test_prompts_of_different_rotary_regimes_share_nothing() -> None:
    engine = scheduler()
    for regime in (0, 30):
        one = sequence([1] * 12, regime=regime, max_new_tokens=1)
        engine.add(one)
        step(engine)
    assert one.cached_tokens == 0


def test_a_cache_that_is_off_shares_nothing() -> None:
    engine = scheduler(prefix_caching=False)
    for _ in range(2):
        one = sequence([1] * 12, max_new_tokens=1)
        engine.add(one)
        step(engine)
    assert (one.cached_tokens, engine.pages_cached) == (0, 0)


def test_pages_of_a_failed_step_are_not_found_again() -> None:
    engine = scheduler()
    one, other = sequence([1] * 12), sequence([1] * 12)
    engine.add(one)
    engine.add(other)
    plan = engine.schedule(0.0)
    assert plan is not None
    assert engine.fail(plan) == [one, other]
    engine.check_integrity()
    assert (engine.pages_used, engine.pages_cached) == (0, 0)
    engine.add(sequence([1] * 12))
    assert prompt_tokens(step(engine)) == 12


def test_one_that_shared_a_page_of_a_failed_step_starts_anew() -> None:
    engine = scheduler(max_prefill_token_num=12)
    one, other = sequence([1] * 12), sequence([1] * 12)
    engine.add(one)
    engine.add(other)
    plan = engine.schedule(0.0)
    assert plan is not None
    assert engine.fail(plan) == [one]
    engine.check_integrity()
    assert (engine.num_waiting, other.num_computed) == (1, 0)
    assert sizes(step(engine)) == [(other.request_id, 12)]


def test_a_last_token_behind_pages_that_its_own_step_fills_does_not_decode() -> None:
    """Kernels that decode read older keys before the step stores its own."""
    engine = scheduler()
    one, other = sequence([1, 2, 3, 4]), sequence([1, 2, 3, 4])
    for each in (one, other):  # as after a preemption
        each.token_ids += [7] * 5
        engine.add(each)
    plan = engine.schedule(0.0)
    assert plan is not None
    assert [(chunk.start, chunk.num_tokens) for chunk in plan.chunks] == [(0, 9), (8, 1)]
    assert plan.num_decodes == 0
    engine.commit(plan, [7, 7])
    behind = step(engine)
    assert behind is not None and behind.num_decodes == 2
