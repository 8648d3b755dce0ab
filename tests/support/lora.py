"""LoRA adapters for tests: random pairs, in PEFT's layout, merged into weights, or among our tensors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engines.spec import AdapterSpec

RANK, ALPHA = 4, 8


def adapter_specs(folders: Mapping[str, Path]) -> tuple[AdapterSpec, ...]:
    """Return adapters by name as a `ModelSpec` has them."""
    return tuple(AdapterSpec(name=name, folder=str(path)) for name, path in folders.items())


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], **changes: Any) -> Path:
    """Write an adapter with its config, of which `changes` are changed."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    return folder


def pairs(
    weights: Mapping[str, Tensor], names: Sequence[str], seed: int, *, size: float = 0.3
) -> dict[str, Tensor]:
    """Return a random pair for each layer, as PEFT names them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in names:
        outputs, inputs = weights[f"{name}.weight"].shape
        shapes = ((RANK, inputs), (outputs, RANK))
        draw = [torch.randn(shape, generator=generator) * size for shape in shapes]
        found |= {
            f"base_model.model.{name}.lora_{which}.weight": t for which, t in zip("AB", draw, strict=True)
        }
    return found


def merged(weights: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with an adapter added."""
    found = dict(weights)
    for name in lora:
        if name.endswith(".lora_A.weight"):
            base = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = lora[name.replace(".lora_A.", ".lora_B.")]
            found[f"{base}.weight"] = found[f"{base}.weight"] + ALPHA / RANK * b @ lora[name]
    return found


def among(tensors: Mapping[str, Tensor], num: int, seed: int) -> dict[str, Tensor]:
    """Return tensors by our names with `num` random adapters of every linear layer of the decoder."""
    generator = torch.Generator().manual_seed(seed)
    found = dict(tensors)
    for name, weight in tensors.items():
        layer = name.removesuffix(".weight")
        if layer.rpartition(".")[2] in ("qkv", "o", "gate_up", "down"):
            outputs, inputs = weight.shape
            a = torch.randn(num * RANK, inputs, generator=generator) * inputs**-0.5
            b = torch.randn(outputs, num * RANK, generator=generator)
            found[f"{layer}.adapters.a"] = a.to(weight)
            found[f"{layer}.adapters.b"] = b.to(weight)
            owner = torch.arange(num).repeat_interleave(RANK)
            found[f"{layer}.adapters.owner"] = owner.to(weight.device)
    return found
