"""Random sequences for a scheduler, what they must generate, and what holds for every step of theirs."""

import random
from typing import Any

from paged_memory import VOCABULARY, next_token, prefix_digests
from scheduling import image, prompt_tokens
from sequences import sequence

from engines.options import ServiceClass
from engines.schedule.batch_plan import BatchPlan
from engines.schedule.sequence import Sequence


def random_heads(dice: random.Random) -> list[list[int]]:
    """A few beginnings that prompts share."""
    return [[dice.randrange(VOCABULARY) for _ in range(24)] for _ in range(3)]


def random_sequence(
    dice: random.Random, heads: list[list[int]], longest: int, *, num_classes: int = 1
) -> Sequence:
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
        service_class=dice.randrange(num_classes),
        regime=dice.choice([0, 0, 1]),
        max_new_tokens=dice.randrange(1, longest - len(prompt) + 1),
        eos_token_ids=(dice.randrange(VOCABULARY),),
    )


def random_classes(dice: random.Random) -> tuple[ServiceClass, ...]:
    """A few classes whose shares are at most the whole, some of them owed nothing."""
    shares = [dice.choice([0.0, 0.1, 0.25, 0.3]) for _ in range(dice.randrange(1, 4))]
    return tuple(
        ServiceClass(name=f"class{i}", priority=i % 2, share=share) for i, share in enumerate(shares)
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
        token = next_token(prefix_digests(copy, copy.token_ids)[-1])
        if token in prompt.sampling.eos_token_ids:
            break
        copy.token_ids.append(token)
    return copy.token_ids[prompt.num_prompt_tokens :]


def check_plan(plan: BatchPlan, options: dict[str, Any]) -> None:
    assert len(plan.chunks) <= options["max_batch_size"]
    assert prompt_tokens(plan) <= options["max_prefill_token_num"]
    assert all(chunk.num_tokens == 1 for chunk in plan.chunks[: plan.num_decodes])
    names = [chunk.sequence.request_id for chunk in plan.chunks if chunk.proposed is None]
    assert len(set(names)) == len(names)
