"""LoRA adapters in PEFT's layout (adapter_config.json, adapter_model.safetensors) to pairs of matrices.

A layer that a checkpoint holds apart and we fuse (q, k, v; gate, up) gets one pair: the A matrices below each
other, the B matrices in a block diagonal, which adds the same numbers. Scaling (alpha / r) is part of B.
Names are matched by the family's own rules, on `base_model.model.<checkpoint name>.lora_A.weight`.

Legend: O outputs, I inputs, R rank (of all fused matrices together).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engines.errors import CheckpointError
from engines.spec import AdapterSpec
from engines.weights.adapter_names import CONFIG, NAME, TARGETS, WEIGHTS
from engines.weights.match import Claim, claim_of
from engines.weights.parameter import Parameter, Split
from engines.weights.rules import NameRules
from engines.weights.split import local_shape, pieces, source_shape, split_pairs

# Keys of the config, and the only values under which the sum below is the adapter.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None, []),
    # Others, as pissa and olora, begin from a part of the weights, which they take out of the layer itself.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LowRank:
    """What an adapter adds to one tensor of a checkpoint: B A."""

    claim: Claim
    a_RI: Tensor
    b_OR: Tensor


def load_adapters(
    adapters: Sequence[AdapterSpec],
    table: NameRules,
    wanted: Sequence[Parameter],
    *,
    dtype: torch.dtype,
    device: torch.device,
    rank: int = 0,
    tp: int = 1,
) -> dict[str, Tensor]:
    """Return a rank's `<layer>.adapters.a` [R, I], `.b` [O, R] and `.owner` [R] of every adapted layer.

    R are the ranks of all adapters that change it, `owner` says whose each is. A layer whose outputs are
    shared among the ranks of a group has B shared alike, one whose inputs are has A.

    Raises CheckpointError with everything that is wrong with an adapter.
    """
    by_layer: dict[str, list[tuple[int, LowRank]]] = {}
    for number, adapter in enumerate(adapters):
        for part in _read(adapter, table, wanted):
            layer = part.claim.parameter.name.removesuffix(".weight")
            by_layer.setdefault(layer, []).append((number, part))
    found: dict[str, Tensor] = {}
    for layer, parts in by_layer.items():
        a_RI = torch.cat([_inputs(part, rank=rank, tp=tp) for _, part in parts])
        b_OR = torch.cat([_placed(part, rank=rank, tp=tp) for _, part in parts], dim=1)
        owners = [number for number, part in parts for _ in range(len(part.a_RI))]
        found[f"{layer}.adapters.a"] = a_RI.to(device, dtype)
        found[f"{layer}.adapters.b"] = b_OR.to(device, dtype)
        found[f"{layer}.adapters.owner"] = torch.tensor(owners, device=device)
    return found


def _read(adapter: AdapterSpec, table: NameRules, wanted: Sequence[Parameter]) -> list[LowRank]:
    folder = Path(adapter.folder)
    rank, scale = _rank_and_scale(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"adapter `{adapter.name}`, {folder / WEIGHTS}: cannot be read: {error}"
        ) from error
    pairs: dict[str, dict[str, Tensor]] = {}
    faults = []
    for name, tensor in tensors.items():
        parts = NAME.fullmatch(name)
        if parts is None:
            faults.append(f"`{name}`: no LoRA matrix")
        else:
            pairs.setdefault(parts[1], {})[parts[2]] = tensor
    found = []
    for base, pair in sorted(pairs.items()):
        claim = claim_of(f"{base}.weight", table, wanted)
        if claim is None or not TARGETS.fullmatch(claim.parameter.name):
            faults.append(f"`{base}`: no linear layer of this model's decoder")
        elif fault := _misfit(base, pair, claim, rank):
            faults.append(fault)
        else:
            a_RI, b_OR = pair["A"].float(), pair["B"].float() * scale
            found.append(LowRank(claim=claim, a_RI=a_RI, b_OR=b_OR))
    if faults or not found:
        listed = "\n  ".join(faults or ["it holds no matrices"])
        raise CheckpointError(
            f"adapter `{adapter.name}` ({folder}) does not fit: each pair must belong to a linear layer "
            f"of the decoder's attention or FFN, in its shape; name an adapter of this model\n  {listed}"
        )
    return found


def _misfit(base: str, pair: Mapping[str, Tensor], claim: Claim, rank: int) -> str | None:
    if set(pair) != {"A", "B"}:
        return f"`{base}`: lora_{min(pair)} stands alone"
    outputs, inputs = source_shape(claim.rule, claim.parameter)
    a, b = tuple(pair["A"].shape), tuple(pair["B"].shape)
    if (a, b) == ((rank, inputs), (outputs, rank)):
        return None
    return (
        f"`{base}`: A {list(a)} and B {list(b)}: must be {[rank, inputs]} and {[outputs, rank]}, `r` as "
        f"{CONFIG} has it"
    )


def _rank_and_scale(folder: Path) -> tuple[int, float]:
    """Return the rank of a pair, and what B A is multiplied with.

    Raises CheckpointError for another adapter than plain LoRA.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: is no config of a LoRA adapter: {error!r}") from error
    wrong = [
        f"`{key}`: {config[key]!r}"
        for key, good in _ONLY.items()
        if key in config and config[key] not in good
    ]
    if wrong or rank < 1:
        raise CheckpointError(
            f"{folder / CONFIG}: {', '.join(wrong) or f'`r`: {rank}'}: only plain LoRA is served; merge the "
            "adapter into a checkpoint of its own"
        )
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _inputs(part: LowRank, *, rank: int, tp: int) -> Tensor:
    """Return A with the columns whose inputs a rank has."""
    whole, rule = part.claim.parameter, part.claim.rule
    if whole.split != "cols":
        return part.a_RI
    (piece,) = pieces(rule, whole, rank=rank, tp=tp)
    return part.a_RI.narrow(1, piece.source, piece.length)


def _placed(part: LowRank, *, rank: int, tp: int) -> Tensor:
    """Return B with its rows where a rank's fused parameter has them, zeros elsewhere."""
    whole, rule = part.claim.parameter, part.claim.rule
    split: Split = "rows" if whole.split == "rows" else "copy"
    shape = (whole.shape[0], part.b_OR.shape[1])
    parameter = Parameter(name=whole.name, shape=shape, split=split, blocks=whole.blocks)
    placed_OR = torch.zeros(local_shape(parameter, tp=tp))
    for piece in pieces(rule, parameter, rank=rank, tp=tp):
        rows = part.b_OR.narrow(0, piece.source, piece.length)
        placed_OR.narrow(0, piece.target, piece.length).copy_(rows)
    return placed_OR[split_pairs(rule, parameter, tp=tp)] if rule.rotary_pairs else placed_OR
