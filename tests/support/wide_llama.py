"""A Llama of random weights wide enough that engines of several ranks share it, and its greedy answers.

Two ways to compute the same round otherwise, so a token may be another where two are as good as equally
likely; from there on the answers are two.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lora import adapter_specs, pairs, write_adapter
from safetensors.torch import load_file, save_file
from sequences import sampling

from engines.families.registry import read_spec
from engines.ipc.client import EngineClient
from engines.messages import Delta, Done, Ready, Submit
from engines.options import EngineOptions
from engines.quant.method import Method
from engines.quant.packing import packed_tensors, quantization_config
from engines.quant.rounding import round_groups, round_outputs
from engines.quant.weight_quant import WeightFormat
from engines.spec import ModelSpec

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, VOCAB = 1024, 2816, 6, 16, 8, 8192
# How much less likely a token may be, in log-probability. Logits here are up to 16, 2^-4 apart in bf16, and
# what leads to them is rounded by 2^-8 of it in every layer; codes of activations in e4m3 by up to 2^-4.
TIES = {"float32": 1e-3, "bfloat16": 0.5, "codes": 1.5}
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "hidden_act": "silu",
}
Answer = list[tuple[int, dict[int, float]]]  # a token and the likeliest ones with their log-probabilities


def write_wide_checkpoint(
    folder: Path, format: WeightFormat | None = None, *, vocab: int = VOCAB, group_size: int = 128
) -> None:
    """Write a Llama of random weights whose activations keep their size, its layers rounded to a format."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * columns**-0.5).bfloat16()

    head_dim, ones = HIDDEN // HEADS, torch.ones(HIDDEN, dtype=torch.bfloat16)
    tensors = {
        "model.embed_tokens.weight": matrix(vocab, HIDDEN) * HIDDEN**0.5,
        "model.norm.weight": ones,
        "lm_head.weight": 4 * matrix(vocab, HIDDEN),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        tensors |= {
            f"{layer}.input_layernorm.weight": ones.clone(),
            f"{layer}.post_attention_layernorm.weight": ones.clone(),
            f"{layer}.self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": matrix(KV_HEADS * head_dim, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": matrix(KV_HEADS * head_dim, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{layer}.mlp.gate_proj.weight": matrix(FFN, HIDDEN),
            f"{layer}.mlp.up_proj.weight": matrix(FFN, HIDDEN),
            f"{layer}.mlp.down_proj.weight": matrix(HIDDEN, FFN),
        }
    config = CONFIG | {"vocab_size": vocab}
    if format is not None:
        method = Method(
            format=format, group_size=group_size, search=False, symmetric=False, act_order=False, damping=0.0,
            vision=False,
        )  # fmt: skip
        config |= {"quantization_config": quantization_config(method, ["lm_head"])}
        tensors = _rounded(tensors, method)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def _rounded(tensors: dict[str, torch.Tensor], method: Method) -> dict[str, torch.Tensor]:
    """Return the tensors with the linear layers of the decoder packed, each weight rounded to the nearest."""
    packed = {}
    for name, weight in tensors.items():
        if "_proj." not in name:
            packed[name] = weight
            continue
        group = method.group_size
        codes = (
            round_groups(weight, group) if method.is_4_bit and group else round_outputs(weight, method.format)
        )
        packed |= {
            name.removesuffix(".weight") + suffix: x for suffix, x in packed_tensors(codes, method).items()
        }
    return packed


def num_parted(one: Sequence[Answer], other: Sequence[Answer], *, tie: float) -> int:
    """Return how many answers part, which each may where the other's token is within `tie` of its own."""
    parted = 0
    for mine, theirs in zip(one, other, strict=True):
        first = next((i for i in range(len(mine)) if mine[i][0] != theirs[i][0]), None)
        if first is not None:
            parted += 1
            token, likeliest = mine[first]
            place = f"token {first}: {mine[first]} here, {theirs[first]} there"
            assert likeliest.get(theirs[first][0], -99.0) > likeliest[token] - tie, place
    return parted


async def answers(
    folder: Path,
    spec: ModelSpec,
    how: EngineOptions,
    prompts: Sequence[Sequence[int]],
    count: int,
    *,
    adapters: Sequence[str | None] | None = None,
    on_ready: Callable[[Ready], None] | None = None,
) -> list[Answer]:
    """Return the answers of an engine; `adapters`: which each prompt runs through."""
    names = adapters or [None] * len(prompts)
    engine = EngineClient(folder, spec, how, start_timeout_s=120, max_restarts=0)
    await engine.start()
    try:
        if on_ready is not None:
            assert engine.ready is not None, "it has started"
            on_ready(engine.ready)
        return await asyncio.gather(
            *(
                answer(engine, f"prompt-{i}", prompt, count, adapter)
                for i, (prompt, adapter) in enumerate(zip(prompts, names, strict=True))
            )
        )
    finally:
        await engine.close()


async def answer(
    engine: EngineClient, name: str, prompt: Sequence[int], count: int, adapter: str | None = None
) -> Answer:
    """Return the tokens of one answer, each with the likeliest there."""
    request = Submit(
        request_id=name,
        token_ids=tuple(prompt),
        images=(),
        adapter=adapter,
        sampling=sampling(max_new_tokens=count, ignore_eos=True, logprobs=8),
        priority=0,
    )
    found: Answer = []
    async for reply in engine.submit(request):
        if isinstance(reply, Delta):
            for token, place in zip(reply.token_ids, reply.logprobs, strict=True):
                found.append((token, dict(zip(place.top_ids, place.top_logprobs, strict=True))))
        else:
            assert isinstance(reply, Done), reply
    return found


def write_adapted(root: Path, *, vocab: int, linears: Sequence[str]) -> tuple[Path, ModelSpec]:
    """Write a model and adapter `one` of its `linears` below `root`; return its folder and spec."""
    folder = root / "model"
    folder.mkdir()
    write_wide_checkpoint(folder, vocab=vocab)
    weights = load_file(folder / "model.safetensors")
    layers = [f"model.layers.{i}.{linear}" for i in range(LAYERS) for linear in linears]
    adapter = write_adapter(root / "one", pairs(weights, layers, seed=1, size=0.05))
    config = json.loads((folder / "config.json").read_text())
    spec = read_spec(config, origin="config.json", folder=folder)
    return folder, replace(spec, adapters=adapter_specs({"one": adapter}))
