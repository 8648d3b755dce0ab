"""Every tensor a network consists of, by name and shape, from the spec alone. Torch-free.

The loader allocates and fills these, the networks take them by name, the planner counts them. Shapes are the
whole model's; `split` says what one rank of a tensor-parallel group holds (`engines/weights/split.py`).
"""

from collections.abc import Iterator
from functools import lru_cache

from engines.decoder.registry import decoder_parameters
from engines.spec import ModelSpec, VisionSpec
from engines.vision.parts import tower_name
from engines.weights.parameter import Block, Parameter

__all__ = ["Block", "Parameter", "parameters"]


@lru_cache(maxsize=16)  # the planner asks for those of a model hundreds of times
def parameters(spec: ModelSpec) -> tuple[Parameter, ...]:
    """Return the parameters of a model in the order in which a forward pass meets them."""
    vision = () if spec.vision is None else tuple(_vision(spec.vision, spec.decoder.hidden))
    return vision + tuple(decoder_parameters(spec.decoder))


def _vision(spec: VisionSpec, out: int) -> Iterator[Parameter]:
    width = spec.towers[0].hidden
    for index, tower in enumerate(spec.towers):
        yield from tower.parameters(tower_name(index))
    yield from spec.projector.parameters(width, out)
    yield from spec.assembly.parameters(width, out)
