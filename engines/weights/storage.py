"""How the claims of a checkpoint become parameters: as plain tensors, as packed layers, or in 12 bits.

`engines/weights/load.py` reads each in its way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.errors import CheckpointError
from engines.quant.packed_layers import PackedLayer
from engines.quant.weight_quant import WeightQuant
from engines.weights.in_12_bits import lies_in_12_bits
from engines.weights.match import Claim
from engines.weights.quantized import WEIGHT
from engines.weights.quantized_bytes import is_linear

Claims = tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """The claims of a checkpoint by what they become."""

    plain: tuple[Claim, ...]
    packed: tuple[Claims, ...]  # in the checkpoint, together what is one parameter
    in_12_bits: tuple[Claims, ...]  # in memory, likewise


def by_storage(
    claims: Sequence[Claim], packed: Mapping[str, PackedLayer], quant: WeightQuant | None, *, tp: int
) -> Storage:
    """Return what becomes of the claims on a rank; raises CheckpointError where a layer is packed in part."""
    becomes_bf12 = quant is not None and not quant.is_stored
    plain: list[Claim] = []
    stored, made = dict[str, list[Claim]](), dict[str, list[Claim]]()
    for claim in claims:
        name = claim.parameter.name
        if claim.source.removesuffix(WEIGHT) in packed:
            stored.setdefault(name, []).append(claim)
        elif becomes_bf12 and lies_in_12_bits(claim.parameter, tp=tp):
            made.setdefault(name, []).append(claim)
        else:
            plain.append(claim)
    _check(plain, stored)
    return Storage(
        plain=tuple(plain),
        packed=tuple(tuple(parts) for parts in stored.values()),
        in_12_bits=tuple(tuple(parts) for parts in made.values()),
    )


def _check(plain: Sequence[Claim], stored: Mapping[str, Sequence[Claim]]) -> None:
    for claim in plain:
        if claim.parameter.name in stored:
            other = stored[claim.parameter.name][0].source
            raise CheckpointError(
                f"`{claim.source}` is not quantized and `{other}` is: they run as one layer and must be "
                "alike; quantize the checkpoint again"
            )
    for name, parts in stored.items():
        if not is_linear(parts[0].parameter):
            raise CheckpointError(
                f"`{parts[0].source}` is quantized: `{name}` must be in a floating dtype; quantize the "
                "linear layers of decoder, tower and projector alone"
            )
