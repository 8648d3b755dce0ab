"""Prints the time of whole decode steps: `python -m engines.turbomind.bench.decode_step [WORD ...]`.

InternVL2-8B's decoder with random weights and keys, every sequence 1,088 tokens long (the mean of a prompt of
1,024 and 128 new tokens), LM head and greedy choice included, replayed from a graph. No scheduler, no HTTP:
what the GPU takes. A word is a variant, a batch size, a format of keys and values (`kv-fp8`, 16 bits without
one), `bf12` for each variant a second time with weights in 12 bits beside those in 16, which it shares, or
`profile`, which prints a table of each step's kernels in place of its time.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import KvLayer
from engines.options import KvFormat
from engines.parallel import TpGroup
from engines.quant.decode_copies import decode_copies
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.steps.step import StepInput
from engines.turbomind.bench.attention_cases import cache, cache_bytes, paged_batch
from engines.turbomind.bench.choice import greedy
from engines.turbomind.bench.decode_profile import replay_times, table
from engines.turbomind.bench.decode_variants import VARIANTS
from engines.turbomind.bench.timing import capture, copy_ceiling_gbps, matmul_ceiling_tflops, time_us
from engines.turbomind.gpu import Gpu
from engines.vision.vlm import Vlm
from engines.weights.decode_copy import layer_copies
from engines.weights.load import random_tensors

BATCHES = (1, 8, 16, 32, 64, 128, 256)
Choose = Callable[[Tensor], Tensor]
USUAL = ("engine", "no-overlap", "cublas")
PROFILE, BF12 = "profile", "bf12"
KV_WORDS: dict[str, KvFormat] = {f"kv-{format}": format for format in get_args(KvFormat)}
LENGTH, PAGE_TOKENS = 1088, 64
DECODER = DecoderSpec(
    num_layers=32,
    hidden=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn=14336,
    vocab=92553,
    norm_eps=1e-5,
    rope=RopeSpec(theta=1e6),
    max_positions=32768,
)
MODEL = ModelSpec(
    family="internvl", decoder=DECODER, vision=None, dtype="bfloat16", decoder_names="internlm2"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a command line asks for."""

    batches: tuple[int, ...]
    variants: tuple[str, ...]
    kv: KvFormat
    bf12: bool
    profile: bool


def step_of(num_seqs: int) -> StepInput:
    """Return a step in which every sequence decodes its token number LENGTH."""
    rows = torch.arange(num_seqs, device="cuda")
    return StepInput(
        token_ids_T=rows,
        positions_T=torch.full_like(rows, LENGTH - 1),
        rope_lens_T=torch.full_like(rows, LENGTH),
        attention=paged_batch(num_seqs=num_seqs, new=1, prefix=LENGTH - 1, page_tokens=PAGE_TOKENS),
        sample_rows_S=rows,
        feature_rows_M=rows[:0],
        features_MH=None,
    )


def floor_us(num_seqs: int, kv: KvFormat, *, gbps: float, tflops: float) -> float:
    """Return the time below which no step of this batch goes: weights or products, then keys and values."""
    spec = DECODER
    attention = spec.hidden * spec.head_dim * (2 * spec.num_heads + 2 * spec.num_kv_heads)
    weights = spec.num_layers * (attention + 3 * spec.hidden * spec.ffn) + spec.vocab * spec.hidden
    kv_bytes = spec.num_layers * cache_bytes(num_seqs * LENGTH, kv)
    return max(2 * weights / gbps / 1e3, 2 * weights * num_seqs / tflops / 1e6) + kv_bytes / gbps / 1e3


def main(asked: Asked) -> None:
    """Measure the variants at the batch sizes given; the floor is that of 16-bit weights."""
    device = torch.device("cuda")
    ceilings = {"gbps": copy_ceiling_gbps(), "tflops": matmul_ceiling_tflops()}
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {ceilings['gbps']:.0f} GB/s copy")
    print(f"{'variant':<15} {'batch':>5} {'ms a step':>10} {'tok/s':>8} {'floor ms':>9} {'of limit':>8}")
    for variant in asked.variants:
        made = networks(variant, device, bf12=asked.bf12)
        for num_seqs in asked.batches:
            floor = floor_us(num_seqs, asked.kv, **ceilings)
            for name, network in made.items():
                us = time_us([partial(decode, network, *operands(num_seqs, asked.kv))])
                print(
                    f"{name:<15} {num_seqs:>5} {us / 1e3:>10.3f} {num_seqs / us * 1e6:>8.0f} "
                    f"{floor / 1e3:>9.3f} {100 * floor / us:>7.1f}%",
                    flush=True,
                )
        del made


def profile(asked: Asked) -> None:
    """Print what each kernel takes in the steps of the variants at the batch sizes given."""
    device = torch.device("cuda")
    for variant in asked.variants:
        made = networks(variant, device, bf12=asked.bf12)
        for num_seqs in asked.batches:
            for name, network in made.items():
                held = operands(num_seqs, asked.kv)
                graph = capture([partial(decode, network, *held)])
                print(f"{name}, {num_seqs} sequences\n{table(replay_times(graph.replay))}\n", flush=True)
                del graph, held
        del made


def networks(variant: str, device: torch.device, *, bf12: bool) -> dict[str, Network]:
    """Return the network of a variant by its name, and with `bf12` the same with weights in 12 bits, too."""
    tensors = random_tensors(MODEL, device=device, dtype=torch.bfloat16, seed=0)
    copies = decode_copies(tensors, layer_copies(MODEL, None, tp=1), rank=0, tp=1) if bf12 else {}
    ops, alone = VARIANTS[variant](device), TpGroup(rank=0, size=1)
    made: dict[str, Network] = {variant: Vlm(MODEL, tensors, ops=ops, group=alone)}
    if bf12:
        made[f"{variant} {BF12}"] = Vlm(MODEL, tensors | copies, ops=ops, group=alone)
    return made


def operands(num_seqs: int, kv: KvFormat) -> tuple[StepInput, list[KvLayer], Choose]:
    """Return a step of so many sequences, random pages of all layers and what chooses their tokens."""
    step = step_of(num_seqs)
    pages = [cache(step.attention, page_tokens=PAGE_TOKENS, format=kv) for _ in range(DECODER.num_layers)]
    return step, pages, greedy(Gpu(torch.device("cuda")), num_seqs)


def decode(network: Network, step: StepInput, kv: list[KvLayer], choose: Choose) -> Tensor:
    """Return the largest logit's token of each row that is sampled."""
    return choose(network.logits(network.hidden(step, kv)))


def asked_for(words: list[str]) -> Asked:
    """Return what the words ask for; batch sizes and variants are the usual ones where none is named."""
    known = {*VARIANTS, *KV_WORDS, PROFILE, BF12}
    unknown = [word for word in words if not (word.isdigit() or word in known)]
    if unknown:
        raise SystemExit(f"words `{', '.join(unknown)}`: must be batch sizes or {', '.join(sorted(known))}")
    formats = [KV_WORDS[word] for word in words if word in KV_WORDS]
    return Asked(
        batches=tuple(int(word) for word in words if word.isdigit()) or BATCHES,
        variants=tuple(word for word in words if word in VARIANTS) or USUAL,
        kv=formats[-1] if formats else "none",
        bf12=BF12 in words,
        profile=PROFILE in words,
    )


if __name__ == "__main__":
    asked = asked_for(sys.argv[1:])
    with torch.inference_mode():
        (profile if asked.profile else main)(asked)
