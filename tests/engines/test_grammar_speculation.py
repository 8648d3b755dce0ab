"""Engines whose grammars propose tokens answer as those that do not, in every format of keys and values.

Rows of other numbers go through other kernels, so on a GPU a token may be another where two are as good as
equally likely. That it is no more is told by the logits: up to the first other token those of both engines
are of the same text, and may be off by rounding alone, or by what other company makes them off without
proposals; and each token is the best of its own logits that its grammar lets come.
"""

import json
from dataclasses import replace
from typing import Any

import llguidance
import pytest
import torch
from loop_engine import LoopEngine
from printable import END_ID, PRINTABLE
from row_logits import ROUNDED, Answers, RowLogits, Rows, are_ties, compared, num_misjudged, size_of
from small_decoder import SMALL

from engines import loops
from engines.ipc.pixel_files import PixelFiles
from engines.messages import Done
from engines.network_loaders import load_random
from engines.options import SpeculationOptions
from engines.sampling.grammar import Grammars
from engines.schedule.grammar_pace import ALONE

VOCAB, NUM_PROMPTS, NEW_TOKENS, TEMPERATURE = 96, 16, 120, 1.0
SPEC = replace(SMALL, decoder=replace(SMALL.decoder, vocab=VOCAB, num_heads=8, num_kv_heads=2, head_dim=64))
HOW = SpeculationOptions(num_tokens=0, match_tokens=2, max_sequences=4, grammar_tokens=7)
FORM = {
    "type": "object", "properties": {
        "invoice_number": {"type": "string", "maxLength": 8}, "currency": {"enum": ["EUR", "USD", "GBP"]},
        "lines": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "maximum": 99}},
        "total_amount": {"type": "integer", "maximum": 999},
    }, "required": ["invoice_number", "currency", "lines", "total_amount"], "additionalProperties": False,
}  # fmt: skip
GRAMMAR = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(FORM), {"whitespace_pattern": " ?"})
SEEDS = {f"request-{number}": number for number in range(NUM_PROMPTS)}
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(autouse=True)
def _grammars_are_asked_whatever_a_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a clock says whether steps of a model this small are too short to wait for a grammar."""
    monkeypatch.setattr(loops, "_prices", lambda *_: ALONE)


def answers(
    pixels: PixelFiles, device: str, *, at_once: int, **changes: Any
) -> tuple[LoopEngine, Answers, Rows]:
    """Ask all prompts of a new engine; return it, the answers, and the logits behind each token."""
    kernels = {"kind": "turbomind", "dtype": "bfloat16", "device": "cuda", "page_tokens": 16}
    where: dict[str, Any] = kernels if device == "cuda" else {}
    one = LoopEngine(
        pixels, spec=SPEC, load=load_random, overlap=True, num_pages=128, max_batch_size=32,
        session_len=200, **where, **changes,
    )  # fmt: skip
    logits = RowLogits(one.loop)
    for first in range(0, NUM_PROMPTS, at_once):
        for number in range(first, first + at_once):
            one.submit(
                [1 + (7 * number + place) % 80 for place in range(6 + number)],
                max_new_tokens=NEW_TOKENS, temperature=TEMPERATURE, seed=number,
                eos_token_ids=(END_ID,), grammar=GRAMMAR,
            )  # fmt: skip
        one.run()
    found = {name: [*tokens, *_end(one, name)] for name, tokens in one.tokens.items()}
    return one, found, logits.take(found)


def _end(one: LoopEngine, name: str) -> list[int]:
    end = one.ends[name]
    assert isinstance(end, Done), end
    return [END_ID] if end.finish_reason == "stop" else []


@pytest.mark.parametrize(
    ("device", "format"),
    [
        ("cpu", "none"),
        *(pytest.param("cuda", form, marks=ON_GPU) for form in ("none", "bf12", "fp8", "int8", "int4")),
    ],
)
def test_answers_part_at_ties_alone(pixels: PixelFiles, device: str, format: str) -> None:
    plain, *first = answers(pixels, device, at_once=4, format=format)
    others = [
        answers(pixels, device, at_once=1, format=format),
        answers(pixels, device, at_once=4, format=format, speculation=HOW),
    ]
    company, proposals = (
        compared((first[0], first[1]), (found, rows), seeds=SEEDS, temperature=TEMPERATURE)  # type: ignore[arg-type]
        for _, found, rows in others
    )
    before, after = plain.loop.stats(), others[1][0].loop.stats()
    print(
        f"{device}, {format}: of {NUM_PROMPTS} answers {company.num_same} are the same in other company, "
        f"{proposals.num_same} with proposals; logits are off by {float(company.off.max()):.4f} and "
        f"{float(proposals.off.max()):.4f}; {after.accepted_tokens} of {after.proposed_tokens} proposed "
        f"tokens were right; {before.steps} steps, {after.steps} with proposals"
    )
    assert proposals.num_same == NUM_PROMPTS or device == "cuda"
    size, most = size_of(first[1]), float(company.off.max())  # type: ignore[arg-type]
    assert all(are_ties(proposals, size=size, other_company=most)), proposals.partings
    assert float(proposals.off.max()) <= max((ROUNDED if device == "cuda" else 1e-4) * size, 2 * most)
    grammars = Grammars(PRINTABLE, vocab=VOCAB)
    masks = {name: grammars.open(GRAMMAR).mask for name in SEEDS}
    _, found, rows = others[1]
    assert num_misjudged(found, rows, seeds=SEEDS, temperature=TEMPERATURE, masks=masks) == 0
    assert after.accepted_tokens > 100
    assert after.steps < before.steps
