"""Random steps: what comes, is cut, preempted, cancelled and shared is answered as if it were alone.

The scheduler alone, with a memory that is watched: tests/engines/schedule. Here real networks run, with
pictures, on a GPU the kernels and graphs of `engine=turbomind`; there rows of other steps go through other
kernels, so a token may be another one where two are as good as equally likely.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from leads import TIES, first_difference, lead
from loop_engine import LoopEngine
from small_decoder import SMALL
from tiny_engine import SPEC as PICTURED
from tiny_engine import TOKENS_PER_TILE

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Abort
from engines.network_loaders import load_random

VOCAB = 16
DECODER = replace(SMALL.decoder, vocab=VOCAB, num_heads=8, num_kv_heads=2, head_dim=64)
SPEC = replace(PICTURED, decoder=DECODER, dtype="bfloat16")
NUM_CONVERSATIONS = 150
LONGEST = 96  # tokens, prompt and answer: 40 at most before two pictures, 12 behind each
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A prompt, its pictures as (start, seed), and how it is answered."""

    prompt: list[int]
    pictures: list[tuple[int, int]]
    how: dict[str, Any]


def engine(pixels: PixelFiles, device: str, **changes: Any) -> LoopEngine:
    """An engine with pages for three sequences of the longest."""
    kernels = {"kind": "turbomind", "dtype": "bfloat16", "device": "cuda"}
    where: dict[str, Any] = kernels if device == "cuda" else {}
    room: dict[str, Any] = {"page_tokens": 16, "num_pages": 18, "session_len": LONGEST}
    return LoopEngine(pixels, spec=SPEC, load=load_random, overlap=True, **(room | where | changes))


def conversations(dice: random.Random) -> list[Conversation]:
    """Draw prompts that often begin alike, also but for a picture, answered greedily or by seeds."""
    heads = [[dice.randrange(VOCAB) for _ in range(40)] for _ in range(2)]
    texts = [[dice.randrange(VOCAB) for _ in range(12)] for _ in range(2)]
    drawn = []
    for _ in range(NUM_CONVERSATIONS):
        prompt, pictures = dice.choice(heads)[: dice.choice([8, 24, 37])], list[tuple[int, int]]()
        for _ in range(dice.randrange(3)):
            pictures.append((len(prompt), dice.randrange(3)))
            prompt += [0] * TOKENS_PER_TILE + dice.choice(texts)[: dice.choice([4, 7, 12])]
        how = {
            "max_new_tokens": dice.randrange(1, 25),
            "temperature": dice.choice([0.0, 1.0]),
            "seed": dice.randrange(1000),
            "logprobs": VOCAB,
        }
        drawn.append(Conversation(prompt=prompt, pictures=pictures, how=how))
    return drawn


def ask(one: LoopEngine, wanted: Conversation, *, priority: int = 0) -> str:
    return one.submit(wanted.prompt, pictures=wanted.pictures, priority=priority, **wanted.how)


def run_steps(one: LoopEngine, asked: list[Conversation], dice: random.Random, steps: int) -> dict[str, int]:
    """Run so many steps of arrivals and cancellations, then all to their ends; return who asked what."""
    names: dict[str, int] = {}
    while one.loop.stats().steps < steps:
        if one.loop.stats().num_waiting < 4:
            number = dice.randrange(len(asked))
            names[ask(one, asked[number], priority=dice.choice([0, 0, 0, 1]))] = number
        if dice.random() < 0.03:
            alive = [name for name in names if name not in one.ends]
            one.take(one.loop.abort(Abort(request_id=dice.choice(alive))))
        one.step()
    one.run()
    return names


@pytest.mark.parametrize(
    ("device", "format", "steps"),
    [
        ("cpu", "none", 400),
        *(pytest.param("cuda", form, 10_000, marks=ON_GPU) for form in ("none", "int8")),
    ],
)
def test_random_steps_leave_no_page_and_give_the_tokens_of_one_request_at_a_time(
    pixels: PixelFiles, device: str, format: str, steps: int
) -> None:
    dice = random.Random(4)
    asked = conversations(dice)
    alone = engine(pixels, device, format=format, max_batch_size=1, prefix_caching=False)
    wanted = [ask(alone, one) for one in asked]
    alone.run()
    crowd = engine(pixels, device, format=format, max_batch_size=8, max_prefill_token_num=24, cache_bytes=0)
    names = run_steps(crowd, asked, dice, steps)  # which holds that no page is left
    parted = whole = 0
    for name, number in names.items():
        if crowd.done(name).finish_reason == "abort":
            continue
        whole += 1
        reference, how = wanted[number], asked[number].how
        place = first_difference(alone.tokens[reference], crowd.tokens[name])
        if place is not None:
            parted += 1
            other = crowd.tokens[name][place]
            ahead = lead(alone, reference, place, other, seed=how["seed"], temperature=how["temperature"])
            assert ahead < TIES[device], f"{reference}, {name}: token {place}"
    stats = crowd.loop.stats()
    print(
        f"{device}, {format}: {stats.steps} steps, {whole} answers whole and {len(names) - whole} cancelled, "
        f"{stats.preemptions} preempted, {stats.cached_tokens} of {stats.prompt_tokens} tokens shared, "
        f"{stats.images_encoded} pictures encoded; {parted} answers part at a tie"
    )
    assert parted <= (0 if device == "cpu" else whole // 4)
    assert stats.preemptions > steps // 100 and stats.cached_tokens > steps
    assert len(names) - whole > steps // 200 and stats.images_encoded > steps // 100
