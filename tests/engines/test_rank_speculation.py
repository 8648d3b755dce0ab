"""Engines of two ranks that propose tokens answer as those that propose none, adapters beside them too.

A vocabulary of 32 ids, so that what stood before comes again. On GPUs rows of other numbers go through other
kernels: a token may be another where two are as good as equally likely (`tests/support/wide_llama.py`).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import options
from wide_llama import TIES, Answer, answer, num_parted, write_adapted

from engines.ipc.client import EngineClient
from engines.options import SpeculationOptions
from engines.spec import ModelSpec
from engines.stats import Stats

VOCAB, NUM_PROMPTS, NEW_TOKENS = 32, 8, 32
HOW = SpeculationOptions(num_tokens=5, match_tokens=2, max_sequences=4, grammar_tokens=0)
ON_GPUS = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs"),
]


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCAB, (8 + 5 * i,), generator=generator).tolist() for i in range(NUM_PROMPTS)]


async def ask(
    folder: Path, spec: ModelSpec, names: Sequence[str | None], **changes: Any
) -> tuple[list[Answer], Stats]:
    """Return all answers of two ranks, four at a time, and the figures when all is over."""
    how = options(
        tp=2, page_tokens=16, num_pages=64, max_batch_size=32, max_prefill_token_num=64, session_len=128,
        **changes,
    )  # fmt: skip
    engine = EngineClient(folder, spec, how, start_timeout_s=120, max_restarts=0)
    await engine.start()
    try:
        asked = list(enumerate(zip(prompts(), names, strict=True)))
        found: list[Answer] = []
        for first in range(0, NUM_PROMPTS, 4):
            found += await asyncio.gather(
                *(
                    answer(engine, str(i), prompt, NEW_TOKENS, name)
                    for i, (prompt, name) in asked[first : first + 4]
                )
            )
        while engine.stats is None or engine.stats.output_tokens < NUM_PROMPTS * NEW_TOKENS:
            await asyncio.sleep(0.02)
        return found, engine.stats
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("kind", "device", "dtype"),
    [
        ("pytorch", "cpu", "float32"),
        *(
            pytest.param(kind, "cuda", dtype, marks=ON_GPUS)
            for kind, dtype in (("pytorch", "float32"), ("turbomind", "bfloat16"))
        ),
    ],
)
async def test_two_ranks_answer_with_proposals_as_without(
    kind: Any, device: Any, dtype: Any, tmp_path: Path
) -> None:
    folder, spec = write_adapted(tmp_path, vocab=VOCAB, linears=("self_attn.q_proj", "mlp.down_proj"))
    names = ["one" if i % 2 else None for i in range(NUM_PROMPTS)]
    where = {"kind": kind, "device": device, "dtype": dtype}
    plain, before = await ask(folder, spec, names, **where)
    proposing, after = await ask(folder, spec, names, speculation=HOW, **where)
    parted = num_parted(plain, proposing, tie=TIES[dtype])
    print(
        f"{kind}, {dtype}: {parted} of {NUM_PROMPTS} answers part at a tie; "
        f"{after.accepted_tokens} of {after.proposed_tokens} proposed tokens were right; "
        f"{before.steps} steps, {after.steps} with proposals"
    )
    assert parted <= (0 if device == "cpu" else NUM_PROMPTS // 2)
    assert after.accepted_tokens > 20
    assert after.steps < before.steps
