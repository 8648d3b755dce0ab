"""Sequences for tests of the runtime: short ways to make them."""

import itertools
from collections.abc import Iterable
from typing import Any

from engines.memory.prefix_cache import root_key
from engines.messages import Sampling
from engines.schedule.batch_plan import Chunk
from engines.schedule.sequence import ImageSlots, Sequence

_arrivals = itertools.count()


def sampling(**changes: Any) -> Sampling:
    """Greedy sampling of 16 tokens, with the fields named changed."""
    fields: dict[str, Any] = {
        "max_new_tokens": 16,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": 0,
        "min_new_tokens": 0,
        "ignore_eos": False,
        "eos_token_ids": (),
        "stop_token_ids": (),
        "bad_sequences": (),
        "logit_bias": {},
        "logprobs": None,
    }
    return Sampling(**(fields | changes))


def sequence(
    prompt: list[int],
    *,
    images: tuple[ImageSlots, ...] = (),
    priority: int = 0,
    service_class: int = 0,
    regime: int = 0,
    **changes: Any,
) -> Sequence:
    """A waiting sequence; keyword arguments are fields of its sampling."""
    how = sampling(**changes)
    arrival = next(_arrivals)
    return Sequence(
        request_id=f"request-{arrival}",
        token_ids=list(prompt),
        num_prompt_tokens=len(prompt),
        images=images,
        sampling=how,
        max_tokens=len(prompt) + how.max_new_tokens,
        priority=priority,
        service_class=service_class,
        arrival=arrival,
        root_key=root_key(regime),
        submitted_s=0.0,
    )


def ends_of(sequences: Iterable[Sequence]) -> list[Chunk]:
    """The chunk of each sequence after which its next token is sampled: its last token."""
    return [Chunk(sequence=one, start=len(one.token_ids) - 1, num_tokens=1) for one in sequences]
