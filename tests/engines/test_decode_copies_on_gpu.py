"""Engines that read copies of their weights answer as those that do not, in the memory that is planned."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora import adapter_specs, pairs, write_adapter
from safetensors.torch import load_file
from tiny_engine import options
from wide_llama import LAYERS, TIES, VOCAB, Answer, answers, num_parted, write_wide_checkpoint

from engines.families.registry import read_spec
from engines.messages import Ready
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.weights.decode_copy import CAPABILITY, bf12_alone, layer_copies

NUM_PROMPTS, NEW_TOKENS = 48, 24
UNSPLIT_BYTES = 1 << 20  # of a block that torch's allocator does not cut off behind a tensor, at most

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() != CAPABILITY,
        reason="needs a GPU of compute capability 9.0",
    ),
]

TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCAB, (8 + 5 * i,), generator=generator).tolist() for i in range(NUM_PROMPTS)]


def run(
    folder: Path, spec: ModelSpec, share: float, *, tp: int = 1, adapters: Sequence[str | None] | None = None
) -> tuple[list[Answer], Ready]:
    """Return the answers of an engine that may take a share of the memory for a copy, and what it said."""
    how = options(
        kind="turbomind", dtype="bfloat16", device="cuda", tp=tp, decode_weights=share, page_tokens=16,
        num_pages=1024, max_batch_size=16, max_prefill_token_num=512, session_len=512,
    )  # fmt: skip
    told: list[Ready] = []
    found = asyncio.run(
        answers(folder, spec, how, prompts(), NEW_TOKENS, adapters=adapters, on_ready=told.append)
    )
    return found, told[0]


def spec_of(folder: Path) -> ModelSpec:
    config = json.loads((folder / "config.json").read_text())
    return read_spec(config, origin="config.json", folder=folder)


@pytest.mark.parametrize(
    ("weights", "tp"),
    [
        (None, 1),
        ("awq", 1),
        ("fp8", 1),
        pytest.param(None, 2, marks=TWO_GPUS),
        pytest.param("fp8", 2, marks=TWO_GPUS),
    ],
)
def test_answers_part_only_at_ties_and_the_copy_takes_what_is_planned(
    weights: Any, tp: int, tmp_path: Path
) -> None:
    write_wide_checkpoint(tmp_path, weights)
    spec = spec_of(tmp_path)
    (wide, before), (narrow, after) = (run(tmp_path, spec, share, tp=tp) for share in (0.0, 0.15))
    parted = num_parted(wide, narrow, tie=TIES["bfloat16" if weights is None else "codes"])
    copied = layer_copies(spec, spec.quantization, tp=tp)
    took = after.bytes_by_part["weights"] - before.bytes_by_part["weights"]
    # Of 2,816 inputs two ranks hold 1,408 each, no whole tiles of 7 bits: `down` has no copy there.
    layers = {"awq": 0, "fp8": 4 if tp == 1 else 3}.get(weights, 4) * LAYERS
    assert len(copied) == layers + 1
    # Threads load in any order, so either engine may hold what the allocator did not cut off behind a tensor.
    wanted = sum(layer.num_bytes for layer in copied.values())
    assert abs(took - wanted) <= 2 * len(copied) * UNSPLIT_BYTES
    seconds = [ready.phase_s["weights"] for ready in (before, after)]
    print(
        f"{weights or 'bfloat16'}, tp={tp}: {parted} of {NUM_PROMPTS} answers part at a tie; copy "
        f"{took / 2**20:.1f} MiB; weights loaded in {seconds[0]:.2f} s, with the copy in {seconds[1]:.2f} s"
    )


@pytest.mark.parametrize("tp", [1, pytest.param(2, marks=TWO_GPUS)])
def test_answers_from_12_bits_alone_part_only_at_ties_and_save_what_is_planned(
    tp: int, tmp_path: Path
) -> None:
    write_wide_checkpoint(tmp_path)
    spec = spec_of(tmp_path)
    alone = replace(spec, quantization=WeightQuant(format="bf12"))
    (wide, before), (narrow, after) = (run(tmp_path, one, 0.0, tp=tp) for one in (spec, alone))
    parted = num_parted(wide, narrow, tie=TIES["bfloat16"])
    saved = before.bytes_by_part["weights"] - after.bytes_by_part["weights"]
    layers = bf12_alone(spec, tp=tp)
    assert len(layers) == 4 * LAYERS + 1
    assert abs(saved - sum(layer.saved_bytes for layer in layers.values())) <= 2 * len(layers) * UNSPLIT_BYTES
    print(f"tp={tp}: {parted} of {NUM_PROMPTS} answers part at a tie; {saved / 2**20:.1f} MiB less")


@pytest.mark.parametrize("alone", [False, True])
def test_adapters_add_to_products_that_read_12_bits(alone: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_wide_checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    kinds = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    layers = [f"model.layers.{i}.{kind}" for i in range(LAYERS) for kind in kinds]
    adapters = {
        f"adapter-{i}": write_adapter(tmp_path / str(i), pairs(weights, layers, seed=i, size=0.05))
        for i in range(3)
    }
    spec = replace(spec_of(folder), adapters=adapter_specs(adapters))
    names = [None if i % 4 == 0 else f"adapter-{i % 3}" for i in range(NUM_PROMPTS)]
    wide = run(folder, spec, 0.0, adapters=names)[0]
    read = replace(spec, quantization=WeightQuant(format="bf12")) if alone else spec
    narrow = run(folder, read, 0.15, adapters=names)[0]
    parted = num_parted(wide, narrow, tie=TIES["bfloat16"])
    print(f"with adapters {parted} of {NUM_PROMPTS} answers part at a tie")
