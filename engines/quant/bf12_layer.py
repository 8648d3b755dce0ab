"""A linear layer in 12 bits alone, made of its matrix, and what the log says of all of them."""

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor

from engines.errors import CheckpointError
from engines.ops import Dense12
from engines.quant.bf12_tiles import bf12_of

_log = logging.getLogger(__name__)


def layer_in_12_bits(weight_OI: Tensor, name: str) -> Dense12:
    """Return a layer of whole tiles of bf16, its bias apart, on the device of its matrix.

    Raises CheckpointError, naming the layer, where 12 bits do not hold its numbers.
    """
    bf12 = bf12_of(weight_OI)
    if bf12 is None:
        raise CheckpointError(
            f"`{name}` has weights of 65,536 and more, infinities or NaNs (quantization.weights=bf12): 12 "
            "bits hold none of them; use quantization=auto"
        )
    return Dense12(bf12=bf12, bias_O=None)


def log_12_bits(tensors: Mapping[str, Tensor], left: Sequence[str]) -> None:
    """Say what lies in 12 bits, and which layers are `left` in 16."""
    factors = [name.removesuffix(".factor") for name in tensors if name.endswith(".factor")]
    num_bytes = sum(tensors[f"{name}.{part}"].nbytes for name in factors for part in ("tiles", "factor"))
    _log.info("weights in 12 bits: %d layers, %.2f GiB", len(factors), num_bytes / 2**30)
    if left:
        _log.warning(
            "%d linear layers of the decoder stay in 16 bits, as they are not whole tiles of 16 outputs and "
            "128 inputs on a rank: %s",
            len(left),
            ", ".join(sorted({name.rpartition(".")[2] for name in left})),
        )
