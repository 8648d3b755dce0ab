"""Engines of two and four GPUs give the tokens of one.

Sums over ranks round otherwise than sums in one product (`tests/support/wide_llama.py`).
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from internvl_golden import golden
from lora import adapter_specs, pairs, write_adapter
from safetensors.torch import load_file
from tiny_engine import options
from wide_llama import (
    CONFIG,
    KV_HEADS,
    LAYERS,
    TIES,
    VOCAB,
    Answer,
    answers,
    num_parted,
    write_wide_checkpoint,
)

from engines.families.registry import read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.weights.load import load_network

NUM_PROMPTS, NEW_TOKENS = 48, 24

gpus = torch.cuda.device_count()
needs = {
    tp: pytest.mark.skipif(gpus < tp, reason=f"needs {tp} CUDA GPUs, there are {gpus}") for tp in (1, 2, 4)
}


def group_size(tp: int) -> int:
    """Inputs under one scale, whole groups of which are a rank's: of 2,816 there are 22 groups of 128."""
    return 128 if tp < 4 else 64


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("weights", ["fp8", "awq"])
def test_a_wide_checkpoint_loads_on_a_cpu(weights: Any, tp: int, tmp_path: Path) -> None:
    """What the tests below start from is a checkpoint that the ranks can share."""
    write_wide_checkpoint(tmp_path, weights, group_size=group_size(tp))
    config = json.loads((tmp_path / "config.json").read_text())
    spec = read_spec(config, origin="config.json", folder=tmp_path)
    assert spec.decoder.num_kv_heads == KV_HEADS
    how: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    load_network(tmp_path, spec, ops=TorchOps(), rank=tp - 1, tp=tp, **how)


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
    parted = num_parted(alone, together, tie=TIES[dtype])
    print(f"{kind}, tp={tp}: {parted} of {NUM_PROMPTS} answers of {NEW_TOKENS} tokens part at a tie")
    assert dtype != "float32" or parted <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("tp", [pytest.param(tp, marks=needs[tp]) for tp in (2, 4)])
@pytest.mark.parametrize(("weights", "kv"), [("fp8", "fp8"), ("awq", "int8")])
def test_answers_of_quantized_engines_part_only_at_ties(
    weights: Any, kv: Any, tp: int, tmp_path: Path
) -> None:
    """A rank finds the scale of its own share of a row of activations, so their codes are other ones."""
    write_wide_checkpoint(tmp_path, weights, group_size=group_size(tp))
    spec = read_spec(
        json.loads((tmp_path / "config.json").read_text()), origin="config.json", folder=tmp_path
    )
    generator = torch.Generator().manual_seed(1)
    lengths = [8 + 5 * i for i in range(NUM_PROMPTS)]
    prompts = [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]

    def run(tp: int) -> list[Answer]:
        how = options(
            kind="turbomind", dtype="bfloat16", device="cuda", tp=tp, format=kv, page_tokens=16,
            num_pages=1024, max_batch_size=16, max_prefill_token_num=512, session_len=512,
        )  # fmt: skip
        return asyncio.run(answers(tmp_path, spec, how, prompts, NEW_TOKENS))

    parted = num_parted(run(1), run(tp), tie=TIES["codes"])
    print(f"{weights} weights, {kv} pages, tp={tp}: {parted} of {NUM_PROMPTS} answers part at a tie")


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


@pytest.mark.gpu
@pytest.mark.parametrize("tp", [pytest.param(tp, marks=needs[tp]) for tp in (1, 2)])
def test_a_batch_through_many_adapters_gives_what_plain_torch_gives(tp: int, tmp_path: Path) -> None:
    """Recorded steps of the CUDA engine, bfloat16, against eager ones in fp32; each third prompt is bare."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_wide_checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    kinds = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    layers = [f"model.layers.{i}.{kind}" for i in range(LAYERS) for kind in kinds]
    adapters = {
        f"adapter-{i}": write_adapter(tmp_path / str(i), pairs(weights, layers, seed=i, size=0.05))
        for i in range(8)
    }
    spec = replace(read_spec(CONFIG, origin="config.json", folder=folder), adapters=adapter_specs(adapters))
    names = [None if i % 3 == 0 else f"adapter-{i % 8}" for i in range(NUM_PROMPTS)]
    generator = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(0, VOCAB, (8 + 3 * i,), generator=generator).tolist() for i in range(NUM_PROMPTS)
    ]

    def run(kind: Any, dtype: Any, tp: int, prompts: list[list[int]], names: list[Any]) -> list[Answer]:
        how = options(
            kind=kind, dtype=dtype, device="cuda", tp=tp, page_tokens=16, num_pages=1024, max_batch_size=16,
            max_prefill_token_num=512, session_len=512,
        )  # fmt: skip
        return asyncio.run(answers(folder, spec, how, prompts, NEW_TOKENS, adapters=names))

    plain = run("pytorch", "float32", 1, prompts, names)
    parted = num_parted(plain, run("turbomind", "bfloat16", tp, prompts, names), tie=TIES["bfloat16"])
    print(f"{parted} of {NUM_PROMPTS} answers part at a tie")
    (bare,) = run("pytorch", "float32", 1, prompts[1:2], [None])
    assert [token for token, _ in bare] != [token for token, _ in plain[1]], "an adapter changes answers"
