"""From a checkpoint folder to a network on one rank.

    names and shapes --match--> claims --pieces--> stretches, read in parallel, written into allocated
    parameters

A rank reads its share of each tensor only. `random_network` builds the same structure without a checkpoint.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from engines.errors import CheckpointError
from engines.families import rules_for
from engines.network import Network
from engines.ops import Ops
from engines.parallel import TpGroup
from engines.spec import ModelSpec
from engines.vision.vlm import Vlm
from engines.weights.checkpoint import Checkpoint
from engines.weights.match import Claim, match
from engines.weights.parameters import Parameter, parameters
from engines.weights.split import local_shape, pieces, source_shape, split_pairs

NUM_READERS = 4  # threads; reading is bound by the disk, converting by memory

Progress = Callable[[int, int], None]  # numbers of the checkpoint that are loaded, numbers in all


def load_network(
    folder: Path,
    spec: ModelSpec,
    *,
    ops: Ops,
    device: torch.device,
    dtype: torch.dtype,
    rank: int = 0,
    tp: int = 1,
    progress: Progress | None = None,
) -> Network:
    """Load one rank's share of a checkpoint, converted to `dtype`.

    Raises CheckpointError with everything that is wrong with the folder, its files, names or shapes.
    """
    checkpoint = Checkpoint(Path(folder), spec.companions)
    claims = match(checkpoint.shapes, rules_for(spec), parameters(spec), origin=str(folder))
    wanted = {claim.parameter.name: claim for claim in claims}
    tensors = {
        name: torch.zeros(
            local_shape(claim.parameter, tp=tp),
            dtype=_own_dtype(checkpoint, claim) if claim.parameter.keeps_dtype else dtype,
            device=device,
        )
        for name, claim in wanted.items()
    }
    _fill(tensors, checkpoint, claims, rank=rank, tp=tp, progress=progress)
    return Vlm(spec, tensors, ops=ops, group=TpGroup(rank=rank, size=tp))


def random_network(
    spec: ModelSpec,
    *,
    ops: Ops,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    rank: int = 0,
    tp: int = 1,
) -> Network:
    """Build a network with seeded random weights, scaled so that activations keep their size."""
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {
        parameter.name: _random(parameter, generator, tp=tp, dtype=dtype)
        for parameter in parameters(spec)
        if not parameter.optional
    }
    return Vlm(spec, tensors, ops=ops, group=TpGroup(rank=rank, size=tp))


def _fill(
    tensors: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    claims: list[Claim],
    *,
    rank: int,
    tp: int,
    progress: Progress | None,
) -> None:
    total = sum(_num_values(claim) for claim in claims)
    done = 0

    def copy(claim: Claim) -> int:
        _copy(tensors[claim.parameter.name], checkpoint, claim, rank=rank, tp=tp)
        return _num_values(claim)

    with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="weights") as pool:
        for num_values in pool.map(copy, claims):
            done += num_values
            if progress is not None:
                progress(done, total)


def _copy(target: Tensor, checkpoint: Checkpoint, claim: Claim, *, rank: int, tp: int) -> None:
    if claim.rule.layout == "reshaped":
        whole = checkpoint.read(claim.source, axis=0, start=0, length=checkpoint.shapes[claim.source][0])
        target.copy_(whole.reshape(target.shape))
        return
    for piece in pieces(claim.rule, claim.parameter, rank=rank, tp=tp):
        part = checkpoint.read(claim.source, axis=piece.axis, start=piece.source, length=piece.length)
        if not part.is_floating_point():
            raise CheckpointError(
                f"tensor `{claim.source}` ({checkpoint.folder}) is {part.dtype}: must be floating"
            )
        target.narrow(piece.axis, piece.target, piece.length).copy_(part)
    if claim.rule.rotary_pairs:
        target.copy_(target[split_pairs(claim.rule, claim.parameter, tp=tp)])


def _own_dtype(checkpoint: Checkpoint, claim: Claim) -> torch.dtype:
    return checkpoint.read(claim.source, axis=0, start=0, length=1).dtype


def _num_values(claim: Claim) -> int:
    return prod(source_shape(claim.rule, claim.parameter))


def _random(parameter: Parameter, generator: torch.Generator, *, tp: int, dtype: torch.dtype) -> Tensor:
    shape = local_shape(parameter, tp=tp)
    tensor = torch.empty(shape, dtype=dtype, device=generator.device)
    if parameter.role in ("norm", "scale"):
        return tensor.fill_(1.0)
    if parameter.role == "bias":
        return tensor.zero_()
    fan_in = 1 if parameter.role == "embedding" else prod(parameter.shape[1:])
    return tensor.normal_(std=fan_in**-0.5, generator=generator)
