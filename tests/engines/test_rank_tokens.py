"""Engines of two and four GPUs give the tokens of one.

Sums over ranks round otherwise than sums in one product, so a token may be another where two are as good as
equally likely; from there on the answers are two.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from internvl_golden import golden
from safetensors.torch import save_file
from sequences import sampling
from tiny_engine import options

from engines.client import EngineClient
from engines.families.registry import read_spec
from engines.messages import Delta, Done, Submit
from engines.options import EngineOptions
from engines.spec import ModelSpec

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, VOCAB = 1024, 2816, 6, 16, 8, 8192
# How much less likely a token may be, in log-probability. Logits here are up to 16, 2^-4 apart in bf16, and
# what leads to them is rounded by 2^-8 of it in every layer.
TIES = {"float32": 1e-3, "bfloat16": 0.5}
NUM_PROMPTS, NEW_TOKENS = 48, 24
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

gpus = torch.cuda.device_count()
needs = {tp: pytest.mark.skipif(gpus < tp, reason=f"needs {tp} CUDA GPUs, there are {gpus}") for tp in (2, 4)}


def test_a_wide_checkpoint_loads_on_a_cpu(tmp_path: Path) -> None:
    """What the tests below start from is a checkpoint."""
    write_wide_checkpoint(tmp_path)
    assert read_spec(CONFIG, origin="config.json").decoder.num_kv_heads == KV_HEADS


@pytest.mark.gpu
@pytest.mark.parametrize("tp", [pytest.param(tp, marks=needs[tp]) for tp in (2, 4)])
@pytest.mark.parametrize(("kind", "dtype"), [("pytorch", "float32"), ("turbomind", "bfloat16")])
def test_answers_part_only_where_two_tokens_are_as_good_as_equally_likely(
    kind: Any, dtype: Any, tp: int, tmp_path: Path
) -> None:
    write_wide_checkpoint(tmp_path)
    spec = read_spec(CONFIG, origin="config.json", folder=tmp_path)
    generator = torch.Generator().manual_seed(1)
    lengths = [8 + 5 * i for i in range(NUM_PROMPTS)]
    prompts = [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]

    def run(tp: int) -> list[Answer]:
        how = options(
            kind=kind, dtype=dtype, device="cuda", tp=tp, page_tokens=16, num_pages=1024, max_batch_size=16,
            max_prefill_token_num=512, session_len=512,
        )  # fmt: skip
        return asyncio.run(answers(tmp_path, spec, how, prompts, NEW_TOKENS))

    alone, together = run(1), run(tp)
    parted = 0
    for one, other in zip(alone, together, strict=True):
        first = next((i for i in range(NEW_TOKENS) if one[i][0] != other[i][0]), None)
        if first is not None:
            parted += 1
            token, likeliest = one[first]
            place = f"token {first}: {one[first]} alone, {other[first]} together"
            assert likeliest.get(other[first][0], -99.0) > likeliest[token] - TIES[dtype], place
    print(f"{kind}, tp={tp}: {parted} of {NUM_PROMPTS} answers of {NEW_TOKENS} tokens part at a tie")
    assert dtype != "float32" or parted <= 1


@pytest.mark.gpu
@needs[2]
def test_two_gpus_give_upstreams_tokens_in_fp32(internvl_folder: Any) -> None:
    reference = golden("internlm2_vit300m")
    how = options(tp=2, device="cuda", dtype="float32", page_tokens=16, num_pages=64)
    expected = reference.tensors["greedy_text"].tolist()
    prompts = [reference.token_ids("text")]
    folder = internvl_folder("internlm2_vit300m")
    [found] = asyncio.run(answers(folder, reference.spec, how, prompts, len(expected)))
    assert [token for token, _ in found] == expected


def write_wide_checkpoint(folder: Path) -> None:
    """Write a Llama of random weights whose activations keep their size."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * columns**-0.5).bfloat16()

    head_dim, ones = HIDDEN // HEADS, torch.ones(HIDDEN, dtype=torch.bfloat16)
    tensors = {
        "model.embed_tokens.weight": matrix(VOCAB, HIDDEN) * HIDDEN**0.5,
        "model.norm.weight": ones,
        "lm_head.weight": 4 * matrix(VOCAB, HIDDEN),
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
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))


async def answers(
    folder: Path, spec: ModelSpec, how: EngineOptions, prompts: list[list[int]], count: int
) -> list[Answer]:
    """Return the answers of an engine."""
    engine = EngineClient(folder, spec, how, start_timeout_s=120, max_restarts=0)
    await engine.start()
    try:
        return await asyncio.gather(
            *(answer(engine, f"prompt-{i}", prompt, count) for i, prompt in enumerate(prompts))
        )
    finally:
        await engine.close()


async def answer(engine: EngineClient, name: str, prompt: list[int], count: int) -> Answer:
    """Return the tokens of one answer, each with the likeliest there."""
    request = Submit(
        request_id=name,
        token_ids=tuple(prompt),
        images=(),
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
