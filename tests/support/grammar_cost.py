"""Times decode steps of which no, one or all sequences follow a JSON schema, without processes and sockets.

    PYTHONPATH=.:tests/support python tests/support/grammar_cost.py [WORD ...]

On a GPU InternVL2-8B's decoder with random weights, as engine=turbomind serves it; with `small` a tiny one on
the CPU, whose steps are launched ahead as on a GPU. Numbers are batch sizes. Every sequence is drawn as
conf/sampling/default.yaml says; the vocabulary is made up, and no answer is over before all is timed. With
`proposing` grammars propose up to 8 tokens a step: all that a step takes is then for the tokens it brings a
sequence, on average.
"""

import json
import sys
import time
from dataclasses import replace
from typing import Any

import llguidance
import torch
from made_vocabulary import CONTROL, vocabulary
from sequences import sampling
from tiny_engine import SPEC, options

from engines.ipc.process import _leave_alone_what_stays
from engines.ipc.wire import encode_from_engine
from engines.loading import load_engine
from engines.messages import Abort, Start, Submit, Vocabulary
from engines.options import SpeculationOptions
from engines.spec import ModelSpec
from engines.steps.engine_loop import EngineLoop
from engines.turbomind.bench.decode_step import MODEL

BATCHES = (1, 8, 32, 64)
PROMPT, WARMUP, STEPS = 256, 12, 100
NEW_TOKENS = 9 * (WARMUP + STEPS)
DRAWN = {"temperature": 0.8, "top_k": 40, "top_p": 0.8}
END_ID = CONTROL.index("</s>")
SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer"},
            "colour": {"enum": ["red", "green", "blue"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["name", "count", "colour", "tags"],
        "additionalProperties": False,
    },
}
GRAMMAR = llguidance.grammar_from("json_schema", json.dumps(SCHEMA))


def made(size: int) -> Vocabulary:
    """Return the tokens of `made_vocabulary`."""
    model: Any = vocabulary(size)["model"]
    tokens = tuple(token.replace("Ġ", " ").encode() for token in model["vocab"])
    special = range(len(CONTROL))
    return Vocabulary(
        tokens=(*(b"" for _ in special), *tokens[len(CONTROL) : size]),
        special_ids=tuple(special),
        end_ids=(END_ID,),
    )


def engine(*, small: bool, batch: int, proposing: bool) -> tuple[EngineLoop, ModelSpec]:
    """Return a loop over random weights."""
    length = PROMPT + NEW_TOKENS
    where: dict[str, Any] = {
        "kind": "turbomind",
        "device": "cuda",
        "dtype": "bfloat16",
        "decode_weights": 0.15,
    }
    spec = MODEL
    if small:
        where = {"kind": "pytorch", "device": "cpu"}
        spec = replace(SPEC, decoder=replace(SPEC.decoder, vocab=1000, max_positions=length), vision=None)
    proposals = SpeculationOptions(num_tokens=0, match_tokens=3, max_sequences=4, grammar_tokens=8)
    how = options(
        speculation=proposals if proposing else None,
        load_format="random", page_tokens=64, num_pages=batch * (length // 64 + 2), max_batch_size=batch,
        max_prefill_token_num=8192, session_len=length, **where,
    )  # fmt: skip
    start = Start(folder="nowhere", spec=spec, options=how, vocabulary=made(spec.decoder.vocab))
    return load_engine(start, on_phase=lambda phase: None, overlap=True)[0], spec


def decoding(loop: EngineLoop, spec: ModelSpec, *, batch: int, held: int) -> None:
    """Queue so many sequences and run them until all have read their prompts."""
    for number in range(batch):
        how = {"grammar": GRAMMAR, "eos_token_ids": (END_ID,)} if number < held else {"ignore_eos": True}
        request = Submit(
            request_id=f"cost-{number}",
            token_ids=tuple((number * 7919 + i * 31) % spec.decoder.vocab for i in range(PROMPT)),
            images=(),
            sampling=sampling(max_new_tokens=NEW_TOKENS, seed=number, **DRAWN, **how),
            priority=0,
        )
        assert loop.submit(request) == []
    while loop.stats().num_waiting or not all(one.is_decoding for one in loop._scheduler.running):
        loop.step()


def timed(loop: EngineLoop, spec: ModelSpec, *, batch: int, held: int) -> str:
    """Return ms a step that brings each a token, and of these how long the device stood still."""
    decoding(loop, spec, batch=batch, held=held)
    for _ in range(WARMUP):
        loop.step()
    before, began = loop.stats(), time.perf_counter()
    for _ in range(STEPS):
        encode_from_engine([*loop.step(), loop.stats()])
    wall_s, after = time.perf_counter() - began, loop.stats()
    steps = (after.output_tokens - before.output_tokens) / batch
    assert after.num_running == batch and steps >= STEPS
    for one in loop._scheduler.running:
        loop.abort(Abort(request_id=one.request_id))
    while loop.has_work:  # the device still writes what the step under way has sampled
        loop.step()
    return f"{wall_s / steps * 1e3:8.3f} {(after.gap_s - before.gap_s) / steps * 1e3:8.3f}"


def main(words: list[str]) -> None:
    """Print a line a batch size: ms a step and ms that the device waits, by who follows the schema."""
    batches = [int(word) for word in words if word.isdecimal()] or BATCHES
    loop, spec = engine(small="small" in words, batch=max(batches), proposing="proposing" in words)
    loop.grammars.begin()
    loop.grammars.open(GRAMMAR)
    _leave_alone_what_stays()
    print(f"{'batch':>5} {'none: ms':>8} {'waits':>8} {'one':>8} {'waits':>8} {'all':>8} {'waits':>8}")
    for batch in batches:
        found = [timed(loop, spec, batch=batch, held=held) for held in (0, 1, batch)]
        print(f"{batch:>5} {' '.join(found)}", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
