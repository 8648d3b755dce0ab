"""Bytes of weights on one GPU, by part: every tensor of the network in the shape that a rank really holds.

The list of tensors, how each is shared among ranks and how the vocabulary is padded are the loader's own
(`engines/weights/`), so the sum is what the loader allocates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from deployer.plan.case import Case
from engines.families import rules_for
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.weights.adapter_bytes import adapter_weights
from engines.weights.parameters import Parameter, parameters
from engines.weights.quantized_bytes import parameter_bytes
from engines.weights.split import local_shape

QUANTIZED = ("qkv", "o", "gate_up", "down")  # linear layers of the decoder


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightPart:
    """Tensors that belong together, on one rank."""

    name: str  # tower, projector, embedding, qkv, o, gate_up, down, experts, norms, head, adapters
    num_weights: int  # padding rows included
    num_bytes: int


def weight_parts(case: Case) -> list[WeightPart]:
    """Return the weights of one rank by part, in the order of a forward pass.

    Raises CheckpointError where tp divides no such model, and for adapters of another one.
    """
    parts = list(_network_parts(case.spec, case.quant, dtype_bytes=case.dtype_bytes, tp=case.tp))
    if case.spec.adapters:
        num = adapter_weights(case.spec.adapters, rules_for(case.spec), parameters(case.spec), tp=case.tp)
        parts.append(WeightPart(name="adapters", num_weights=num, num_bytes=num * case.dtype_bytes))
    return parts


@lru_cache(maxsize=64)  # a plan prices a hundred changes, of which few touch a weight
def _network_parts(
    spec: ModelSpec, quant: WeightQuant | None, *, dtype_bytes: int, tp: int
) -> tuple[WeightPart, ...]:
    """Return the weights of one rank without those of adapters."""
    counts: dict[str, tuple[int, int]] = {}
    for parameter in parameters(spec):
        part, num = part_of(parameter), prod(local_shape(parameter, tp=tp))
        size = parameter_bytes(parameter, spec, quant, dtype_bytes=dtype_bytes, tp=tp)
        weights, before = counts.get(part, (0, 0))
        counts[part] = (weights + num, before + size)
    return tuple(
        WeightPart(name=name, num_weights=num, num_bytes=size) for name, (num, size) in counts.items()
    )


def part_of(parameter: Parameter) -> str:
    """Return the part that a parameter belongs to: `decoder.layers.3.gate_up.weight` is of `gate_up`.

    What an assembly adds to the rows counts with the projector.
    """
    first, *after = parameter.name.split(".")
    if first != "decoder":
        return "tower" if first.startswith("vision") else "projector"
    second, *rest = after
    if parameter.role == "norm" or second == "rope":
        return "norms"
    part = rest[1] if second == "layers" else second
    return "experts" if part.startswith("vision_") else {"embed": "embedding"}.get(part, part)


def bytes_of(parts: Iterable[WeightPart], *names: str) -> int:
    """Return the bytes of the parts with these names."""
    return sum(part.num_bytes for part in parts if part.name in names)
