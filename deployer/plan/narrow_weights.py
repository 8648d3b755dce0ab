"""Weights in fewer bits than the units multiply, which steps of few rows read: by the engine's own rules."""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.plan.case import Case
from engines.weights.decode_copy import LayerCopy, bf12_alone


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowWeights:
    """What a rank has in fewer bits, by layer."""

    layers: Mapping[str, LayerCopy]
    alone: bool  # there is nothing else: steps of many rows unpack them, others find them beside the weights


def narrow_weights(case: Case) -> NarrowWeights:
    """Return the second copy of the weights, or weights that have no first one."""
    if case.weights == "bf12":
        return NarrowWeights(layers=bf12_alone(case.spec, tp=case.tp), alone=True)
    return NarrowWeights(layers=case.second_copy.layers, alone=False)
