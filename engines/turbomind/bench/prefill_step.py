"""Prints the time of whole steps of prompts: `python -m engines.turbomind.bench.prefill_step [WORD ...]`.

InternVL2-8B's decoder with random weights, prompts of 2,048 tokens as many as a step of 8,192 takes, or
as a number among the words says; the LM head for the last token of each. A word is a variant of
`decode_variants.py`, or `profile`, which prints a table of the step's kernels in place of its time. Times are
those of a second after a second of the same: large products draw all the power that a GPU may take.
"""

import sys
from functools import partial

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import KvLayer
from engines.steps.step import StepInput
from engines.turbomind.bench.attention_cases import cache, paged_batch
from engines.turbomind.bench.choice import greedy
from engines.turbomind.bench.decode_profile import replay_times, table
from engines.turbomind.bench.decode_step import DECODER, MODEL, PAGE_TOKENS, PROFILE, Choose
from engines.turbomind.bench.decode_variants import VARIANTS
from engines.turbomind.bench.timing import capture, sustained_us
from engines.turbomind.gpu import Gpu
from engines.weights.load import random_network

PROMPT_TOKENS = 2048
PROMPTS = 4
USUAL = ("engine", "fp8", "int8")
SECONDS = 1.0


def main(words: list[str]) -> None:
    """Measure the variants among the words, the usual ones where none is named."""
    unknown = [word for word in words if not (word.isdigit() or word in {*VARIANTS, PROFILE})]
    if unknown:
        allowed = ", ".join(sorted([PROFILE, *VARIANTS]))
        raise SystemExit(f"words `{', '.join(unknown)}`: must be a number of prompts or {allowed}")
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for prompts in [int(word) for word in words if word.isdigit()] or [PROMPTS]:
        for name in [word for word in words if word in VARIANTS] or USUAL:
            network = random_network(
                MODEL, ops=VARIANTS[name](device), device=device, dtype=torch.bfloat16, seed=0
            )
            print(measured(network, name, prompts, profile=PROFILE in words), flush=True)
            del network


def measured(network: Network, name: str, prompts: int, *, profile: bool) -> str:
    """Return the line of a variant, or the table of its kernels."""
    step = step_of(prompts)
    kv = [cache(step.attention, page_tokens=PAGE_TOKENS) for _ in range(DECODER.num_layers)]
    call = partial(_prefill, network, step, kv, greedy(Gpu(torch.device("cuda")), prompts))
    tokens = prompts * PROMPT_TOKENS
    if profile:
        return f"{name}, {tokens} tokens\n{table(replay_times(capture([call]).replay))}\n"
    us = sustained_us([call], seconds=SECONDS)
    return f"{name:<15} {tokens} tokens {us / 1e3:>9.2f} ms {tokens / us * 1e6:>9.0f} tok/s"


def step_of(prompts: int) -> StepInput:
    """Return a step that takes the prompts whole."""
    tokens = torch.arange(prompts * PROMPT_TOKENS, device="cuda")
    return StepInput(
        token_ids_T=tokens % DECODER.vocab,
        positions_T=tokens % PROMPT_TOKENS,
        rope_lens_T=torch.full_like(tokens, PROMPT_TOKENS),
        attention=paged_batch(num_seqs=prompts, new=PROMPT_TOKENS, prefix=0, page_tokens=PAGE_TOKENS),
        sample_rows_S=tokens[PROMPT_TOKENS - 1 :: PROMPT_TOKENS],
        feature_rows_M=tokens[:0],
        features_MH=None,
    )


def _prefill(network: Network, step: StepInput, kv: list[KvLayer], choose: Choose) -> Tensor:
    return choose(network.logits(network.hidden(step, kv)))


if __name__ == "__main__":
    with torch.inference_mode():
        main(sys.argv[1:])
