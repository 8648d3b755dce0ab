"""From a checkpoint folder to a network on one rank.

    names and shapes --match--> claims --pieces--> stretches, read in parallel, written into allocated
    parameters

A rank reads its share of each tensor only. `random_network` builds the same structure without a checkpoint.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from engines.errors import CheckpointError
from engines.families import rules_for
from engines.network import Network
from engines.ops import Ops
from engines.parallel import TpGroup
from engines.quant.bf12_layer import layer_in_12_bits, log_12_bits
from engines.quant.decode_copies import decode_copies
from engines.quant.linear_tensors import tensors_of
from engines.quant.packed_layers import PACKED_SUFFIXES, PackedLayer, packed_layers
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.vision.vlm import Vlm
from engines.weights.adapter import load_adapters
from engines.weights.checkpoint import Checkpoint
from engines.weights.in_12_bits import left_in_16_bits
from engines.weights.match import Claim, match
from engines.weights.parameters import Parameter, parameters
from engines.weights.quantized import WEIGHT, packed_shapes, quantized_linear
from engines.weights.quantized_bytes import is_quantized
from engines.weights.random_quantized import random_quantized
from engines.weights.split import local_shape, pieces, source_shape, split_pairs
from engines.weights.storage import Storage, by_storage

NUM_READERS = 4  # threads; reading is bound by the disk, converting by memory

Change = Callable[[str, Tensor], Tensor]
Progress = Callable[[int, int], None]  # numbers of the checkpoint that are loaded, numbers in all


# Threads write the tensors: the mode is a thread's own, and they are not in it.
@torch.inference_mode(mode=False)
def load_network(
    folder: Path,
    spec: ModelSpec,
    *,
    ops: Ops,
    device: torch.device,
    dtype: torch.dtype,
    rank: int = 0,
    tp: int = 1,
    copied_layers: Collection[str] = (),
    change: Change | None = None,
    progress: Progress | None = None,
) -> Network:
    """Load one rank's share of a checkpoint, converted to `dtype`, and copies of `copied_layers` for decode.

    `change` says what becomes of a tensor by its name; None: all stay as they are.
    Raises CheckpointError with everything that is wrong with the folder, its files, names or shapes.
    """
    checkpoint = Checkpoint(Path(folder), spec.companions)
    quant = spec.quantization
    packed = _packed(checkpoint, quant, origin=str(folder))
    shapes = packed_shapes(checkpoint.shapes, packed, aside=PACKED_SUFFIXES)
    claims = match(shapes, rules_for(spec), parameters(spec), origin=str(folder))
    stored = by_storage(claims, packed, quant, tp=tp)
    share = _Share(device=device, dtype=dtype, rank=rank, tp=tp)
    tensors = _stored_tensors(checkpoint, stored, packed, share, progress)
    if stored.in_12_bits:
        log_12_bits(tensors, left_in_16_bits(spec, tp=tp))
    tensors |= load_adapters(
        spec.adapters, rules_for(spec), parameters(spec), dtype=dtype, device=device, rank=rank, tp=tp
    )
    if change is not None:
        tensors = {name: change(name, tensor) for name, tensor in tensors.items()}
    tensors |= decode_copies(tensors, copied_layers, rank=rank, tp=tp)
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
    copied_layers: Collection[str] = (),
) -> Network:
    """Build a network with seeded random weights, scaled so that activations keep their size.

    `copied_layers` have a copy for decode, too.
    """
    tensors = random_tensors(spec, device=device, dtype=dtype, seed=seed, tp=tp)
    if spec.quantization is not None and not spec.quantization.is_stored:
        log_12_bits(tensors, left_in_16_bits(spec, tp=tp))
    tensors |= decode_copies(tensors, copied_layers, rank=rank, tp=tp)
    return Vlm(spec, tensors, ops=ops, group=TpGroup(rank=rank, size=tp))


def random_tensors(
    spec: ModelSpec, *, device: torch.device, dtype: torch.dtype, seed: int, tp: int = 1
) -> dict[str, Tensor]:
    """Return the tensors of a rank of a random network, by our names."""
    generator = torch.Generator(device).manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    quant = spec.quantization
    for parameter in parameters(spec):
        if parameter.optional:
            continue
        if quant is not None and is_quantized(parameter, spec, quant, tp=tp):
            tensors |= random_quantized(parameter, quant, generator, tp=tp)
        else:
            tensors[parameter.name] = _random(parameter, generator, tp=tp, dtype=dtype)
    return tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share:
    """Whose part is loaded, where to, and as what."""

    device: torch.device
    dtype: torch.dtype
    rank: int
    tp: int


def _stored_tensors(
    checkpoint: Checkpoint,
    stored: Storage,
    packed: Mapping[str, PackedLayer],
    share: _Share,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """Return this rank's part of what the checkpoint holds, by our names."""
    packing = Lock()  # one matrix of 16 bits on the device at a time
    tensors = {
        claim.parameter.name: torch.zeros(
            local_shape(claim.parameter, tp=share.tp),
            dtype=_own_dtype(checkpoint, claim) if claim.parameter.keeps_dtype else share.dtype,
            device=share.device,
        )
        for claim in stored.plain
    }

    def copy(claims: Sequence[Claim]) -> dict[str, Tensor]:
        parameter = claims[0].parameter
        if parameter.name in tensors:
            copy_claim(tensors[parameter.name], checkpoint, claims[0], rank=share.rank, tp=share.tp)
            return {}
        name = parameter.name.removesuffix(WEIGHT)
        if claims[0].source.removesuffix(WEIGHT) in packed:
            weight = quantized_linear(claims, packed, rank=share.rank, tp=share.tp, device=share.device)
            return tensors_of(weight, name)
        weight_OI = torch.zeros(local_shape(parameter, tp=share.tp), dtype=torch.bfloat16)
        for claim in claims:
            copy_claim(weight_OI, checkpoint, claim, rank=share.rank, tp=share.tp)
        with packing:
            return tensors_of(layer_in_12_bits(weight_OI.to(share.device), name), name)

    jobs = [*((claim,) for claim in stored.plain), *stored.packed, *stored.in_12_bits]
    return tensors | _run(copy, jobs, progress)


def _packed(checkpoint: Checkpoint, quant: WeightQuant | None, *, origin: str) -> dict[str, PackedLayer]:
    if quant is not None and quant.is_stored:
        return packed_layers(checkpoint, quant, origin=origin)
    if any(name.endswith(".qweight") for name in checkpoint.shapes):
        raise CheckpointError(
            f"{origin} holds packed 4-bit weights (`*.qweight`), and no file in it says how: must have "
            "`quantization_config` in config.json, quantize_config.json or quant_config.json"
        )
    return {}


def _run(
    copy: Callable[[Sequence[Claim]], dict[str, Tensor]],
    jobs: Sequence[Sequence[Claim]],
    progress: Progress | None,
) -> dict[str, Tensor]:
    """Run every job, several at once; return the tensors that they made."""
    total = sum(_num_values(claim) for job in jobs for claim in job)
    done = 0
    made: dict[str, Tensor] = {}
    with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="weights") as pool:
        for job, tensors in zip(jobs, pool.map(copy, jobs), strict=True):
            made |= tensors
            done += sum(_num_values(claim) for claim in job)
            if progress is not None:
                progress(done, total)
    return made


def copy_claim(target: Tensor, checkpoint: Checkpoint, claim: Claim, *, rank: int, tp: int) -> None:
    """Write this rank's part of a checkpoint tensor to where it belongs in a parameter."""
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
