"""Bytes that adapters take beside the weights, from the headers of their files. Torch-free, for the planner.

A fused layer gets one pair for all its matrices (`adapter.py`), so its B is larger than the file's.

Legend: O outputs, I inputs, R rank (of all fused matrices together).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engines.errors import CheckpointError
from engines.spec import AdapterSpec
from engines.weights.adapter_names import NAME, TARGETS, WEIGHTS
from engines.weights.match import claim_of
from engines.weights.parameter import Parameter
from engines.weights.rules import NameRules
from engines.weights.split import local_shape


def adapter_weights(
    adapters: Sequence[AdapterSpec], table: NameRules, wanted: Sequence[Parameter], *, tp: int
) -> int:
    """Return the numbers in the pairs of all adapted layers, R (I + O) each, as `load_adapters` makes them.

    A rank of several has its share of a layer's outputs, or of its inputs.

    Raises CheckpointError for a file that cannot be read or that names another model's layers.
    """
    return sum(_weights(adapter, table, wanted, tp=tp) for adapter in adapters)


def _weights(adapter: AdapterSpec, table: NameRules, wanted: Sequence[Parameter], *, tp: int) -> int:
    num, unknown = 0, []
    for name, shape in _shapes(adapter).items():
        parts = NAME.fullmatch(name)
        claim = claim_of(f"{parts[1]}.weight", table, wanted) if parts else None
        if parts is None or claim is None or not TARGETS.fullmatch(claim.parameter.name) or len(shape) != 2:
            unknown.append(name)
        elif parts[2] == "A":
            num += shape[0] * sum(local_shape(claim.parameter, tp=tp))
    if unknown or not num:
        listed = ", ".join(f"`{name}`" for name in sorted(unknown)[:3])
        fault = f"matrices of no such layer: {listed}" if unknown else "it holds no matrices"
        raise CheckpointError(
            f"adapter `{adapter.name}` ({adapter.folder}) does not fit, {fault}: each must be of a linear "
            "layer of the decoder's attention or FFN; name an adapter of this model"
        )
    return num


def _shapes(adapter: AdapterSpec) -> Mapping[str, list[int]]:
    file = Path(adapter.folder) / WEIGHTS
    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"adapter `{adapter.name}`, {file}: cannot be read: {error}") from error
