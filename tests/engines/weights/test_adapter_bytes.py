"""Adapters counted from headers, held to what is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_engine import SPEC

from engines.decoder.llama_like_parameters import parameters
from engines.errors import CheckpointError
from engines.families.decoders.llama import LLAMA_RULES
from engines.spec import AdapterSpec
from engines.weights.adapter import load_adapters
from engines.weights.adapter_bytes import adapter_weights
from engines.weights.rules import NameRules

TABLE, WANTED = NameRules(rules=LLAMA_RULES), list(parameters(SPEC.decoder))
ATTENTION = {"q_proj": (32, 32), "v_proj": (16, 32)}  # outputs, inputs


def adapter(folder: Path, ranks: Mapping[str, int]) -> AdapterSpec:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": max(ranks.values()), "lora_alpha": 8}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer, rank in ranks.items():
        outputs, inputs = ATTENTION[layer]
        base = f"base_model.model.model.layers.1.self_attn.{layer}"
        tensors[f"{base}.lora_A.weight"] = torch.zeros(rank, inputs)
        tensors[f"{base}.lora_B.weight"] = torch.zeros(outputs, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    return AdapterSpec(name=folder.name, folder=str(folder))


def test_the_count_is_that_of_the_pairs_that_are_loaded(tmp_path: Path) -> None:
    adapters = [
        adapter(tmp_path / "fused", {"q_proj": 4, "v_proj": 4}),
        adapter(tmp_path / "lone", {"v_proj": 2}),
    ]
    for tp in (1, 2):
        loaded = load_adapters(
            adapters, TABLE, WANTED, dtype=torch.bfloat16, device=torch.device("cpu"), rank=tp - 1, tp=tp
        )
        pairs = [tensor for tensor in loaded.values() if tensor.dtype == torch.bfloat16]
        assert adapter_weights(adapters, TABLE, WANTED, tp=tp) == sum(tensor.numel() for tensor in pairs)
    # q, k and v are fused: 64 outputs
    assert adapter_weights(adapters[1:], TABLE, WANTED, tp=1) == 2 * (32 + 64)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    found = AdapterSpec(name="other", folder=str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    save_file({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}, file)
    with pytest.raises(
        CheckpointError,
        match=r"does not fit, matrices of no such layer.*`base_model.model.lm_head",
    ):
        adapter_weights([found], TABLE, WANTED, tp=1)
    save_file({}, file)
    with pytest.raises(CheckpointError, match="it holds no matrices"):
        adapter_weights([found], TABLE, WANTED, tp=1)
    file.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"adapter `other`, .*: cannot be read"):
        adapter_weights([found], TABLE, WANTED, tp=1)
