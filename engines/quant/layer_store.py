"""The parameters of a checkpoint, a few at a time, and the way back: rows of a parameter to its tensors.

A model that does not fit on a device is quantized layer by layer; nothing here holds more than what was asked
for.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engines.errors import CheckpointError
from engines.families import rules_for
from engines.spec import ModelSpec
from engines.weights.checkpoint import Checkpoint
from engines.weights.load import copy_claim
from engines.weights.match import Claim, match
from engines.weights.parameters import parameters
from engines.weights.split import local_shape, pieces, split_pairs


class LayerStore:
    """One unquantized checkpoint."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Open it. Raises CheckpointError where it is not what its config says, or is quantized already."""
        if spec.quantization is not None:
            raise CheckpointError(
                f"{folder} is quantized already ({spec.quantization.format}): quantize the checkpoint that "
                "it was made from"
            )
        self.spec = spec
        self.checkpoint = Checkpoint(folder, spec.companions)
        self.claims = match(self.checkpoint.shapes, rules_for(spec), parameters(spec), origin=str(folder))

    def load(
        self, wanted: Callable[[str], bool], *, device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return the parameters whose names are wanted."""
        found: dict[str, Tensor] = {}
        for claim in self.claims:
            name = claim.parameter.name
            if not wanted(name):
                continue
            if name not in found:
                own = self.checkpoint.read(claim.source, axis=0, start=0, length=1).dtype
                kept = own if claim.parameter.keeps_dtype else dtype
                found[name] = torch.zeros(local_shape(claim.parameter, tp=1), dtype=kept, device=device)
            copy_claim(found[name], self.checkpoint, claim, rank=0, tp=1)
        return found

    def sources(self, name: str) -> list[Claim]:
        """Return the tensors of the checkpoint that make up a parameter."""
        return [claim for claim in self.claims if claim.parameter.name == name]


def source_rows(claim: Claim) -> Tensor:
    """Return which row of its parameter each row of a checkpoint tensor is, int64."""
    parts = pieces(claim.rule, claim.parameter, rank=0, tp=1)
    if parts[0].axis == 1:  # ranks share its columns; one rank has all of them
        return torch.arange(claim.parameter.shape[0])
    rows = torch.empty(sum(part.length for part in parts), dtype=torch.int64)
    for part in parts:
        rows[part.source : part.source + part.length] = torch.arange(part.target, part.target + part.length)
    if claim.rule.rotary_pairs:
        order = torch.tensor(split_pairs(claim.rule, claim.parameter, tp=1))
        rows = torch.argsort(order)[rows]
    return rows
