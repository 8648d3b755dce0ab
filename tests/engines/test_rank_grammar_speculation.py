"""Engines of two ranks whose grammars propose tokens answer as those that propose none, adapters beside them.

Ranks ask grammars on threads of their own and must go on proposing the same. On GPUs rows of other numbers go
through other kernels: a token may be another where two are as good as equally likely.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llguidance
import pytest
import torch
from printable import END_ID, PRINTABLE, text_of
from sequences import sampling
from tiny_engine import ask, options, wait_until
from wide_llama import write_adapted

from engines.ipc.client import EngineClient
from engines.messages import Submit
from engines.options import SpeculationOptions
from engines.spec import ModelSpec
from engines.stats import Stats

NUM_PROMPTS = 8
HOW = SpeculationOptions(num_tokens=0, match_tokens=2, max_sequences=4, grammar_tokens=6)
FORM = {
    "type": "object", "properties": {
        "number": {"type": "integer", "maximum": 99}, "currency": {"enum": ["EUR", "USD", "GBP"]},
        "total_amount": {"type": "integer", "maximum": 999}, "paid": {"type": "boolean"},
    }, "required": ["number", "currency", "total_amount", "paid"], "additionalProperties": False,
}  # fmt: skip
GRAMMAR = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(FORM), {"whitespace_pattern": " ?"})
ON_GPUS = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs"),
]


async def answers(
    folder: Path, spec: ModelSpec, names: Sequence[str | None], *, at_once: int, **changes: Any
) -> tuple[list[list[int]], Stats]:
    """Return all answers of two ranks, so many at a time, and the figures when all is over."""
    how = options(
        tp=2, page_tokens=16, num_pages=128, max_batch_size=32, max_prefill_token_num=64, session_len=256,
        **changes,
    )  # fmt: skip
    engine = EngineClient(folder, spec, how, start_timeout_s=120, max_restarts=0, vocabulary=PRINTABLE)
    await engine.start()
    try:
        found: list[list[int]] = []
        for first in range(0, NUM_PROMPTS, at_once):
            asked = [_request(number, names[number]) for number in range(first, first + at_once)]
            found += [tokens for tokens, _ in await asyncio.gather(*(ask(engine, one) for one in asked))]
        total = sum(map(len, found))
        await wait_until(lambda: engine.stats is not None and engine.stats.output_tokens >= total)
        assert engine.stats is not None, "waited for"
        return found, engine.stats
    finally:
        await engine.close()


def _request(number: int, adapter: str | None) -> Submit:
    how = sampling(max_new_tokens=160, temperature=0.7, seed=number, eos_token_ids=(END_ID,), grammar=GRAMMAR)
    prompt = tuple(1 + (7 * number + place) % 80 for place in range(10 + number))
    return Submit(
        request_id=f"request-{number}",
        token_ids=prompt,
        images=(),
        adapter=adapter,
        sampling=how,
        priority=0,
    )


@pytest.mark.parametrize(
    ("kind", "device", "dtype"),
    [
        ("pytorch", "cpu", "float32"),
        pytest.param("turbomind", "cuda", "bfloat16", marks=ON_GPUS),
    ],
)
async def test_two_ranks_answer_with_proposals_of_grammars_as_without(
    kind: Any, device: Any, dtype: Any, tmp_path: Path
) -> None:
    folder, spec = write_adapted(tmp_path, vocab=96, linears=("self_attn.q_proj",))
    names = ["one" if i % 2 else None for i in range(NUM_PROMPTS)]
    # Steps of a GPU are priced by a clock: one this short is worth a grammar's tokens to one sequence alone.
    where = {"kind": kind, "device": device, "dtype": dtype, "at_once": 4 if device == "cpu" else 1}
    plain, before = await answers(folder, spec, names, **where)
    proposing, after = await answers(folder, spec, names, speculation=HOW, **where)
    same = sum(one == other for one, other in zip(plain, proposing, strict=True))
    print(
        f"{kind}, {dtype}: {same} of {NUM_PROMPTS} answers are the same; "
        f"{after.accepted_tokens} of {after.proposed_tokens} proposed tokens were right; "
        f"{before.steps} steps, {after.steps} with proposals"
    )
    for one in proposing:
        assert json.loads(text_of(one)).keys() == FORM["properties"].keys()  # type: ignore[attr-defined]
    assert same == NUM_PROMPTS or device == "cuda"
    assert after.accepted_tokens > 100
    assert after.steps < before.steps
