"""The second copies in 12 bits among the named tensors of a network, made once its weights are there.

`engines/weights/bf12_copy.py` says of which layers; `engines/quant/bf12_tiles.py` packs one.
"""

import logging
import time
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from engines.memory.device_memory import capability, gpu_bytes
from engines.options import EngineOptions
from engines.quant.bf12_tiles import bf12_of
from engines.quant.linear_tensors import bf12_tensors
from engines.spec import ModelSpec
from engines.weights.bf12_copy import HEAD, bf12_copy

_log = logging.getLogger(__name__)


def bf12_layers(
    spec: ModelSpec, options: EngineOptions, *, device: torch.device, dtype: torch.dtype
) -> frozenset[str]:
    """Return the layers that a rank copies; where there are none and a share was given the log says why."""
    copy = bf12_copy(
        spec,
        options,
        dtype=str(dtype).removeprefix("torch."),
        quant=spec.quantization,
        capability=capability(device),
        memory_bytes=gpu_bytes(device),
    )
    if copy.why_not is not None and options.bf12_weights:
        _log.info("no second copy of the weights in 12 bits: %s", copy.why_not)
    return copy.layers


def bf12_copies(
    tensors: Mapping[str, Tensor], layers: Collection[str], *, rank: int, tp: int
) -> dict[str, Tensor]:
    """Return the copies of these layers by name, made on the device of the weights.

    A layer with numbers that 12 bits do not hold gets none, and the log says which. A head without a table
    of its own is this rank's rows of the embedding.
    """
    if not layers:
        return {}
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()  # weights that are still on their way are not packing's time
    started = time.perf_counter()
    copies: dict[str, Tensor] = {}
    without = []
    for layer in sorted(layers):
        bf12 = bf12_of(_weight(tensors, layer, rank=rank, tp=tp))
        if bf12 is None:
            without.append(layer)
        else:
            copies |= bf12_tensors(bf12, layer)
    _log.info(
        "weights of %d layers kept in 12 bits too for decode: %.2f GiB, packed in %.2f s",
        len(layers) - len(without),
        sum(copy.nbytes for copy in copies.values()) / 2**30,
        time.perf_counter() - started,
    )
    if without:
        _log.warning(
            "%d layers have weights of 65,536 and more, infinities or NaNs, and stay in 16 bits alone: %s",
            len(without),
            ", ".join(without),
        )
    return copies


def _weight(tensors: Mapping[str, Tensor], layer: str, *, rank: int, tp: int) -> Tensor:
    if layer == HEAD and f"{HEAD}.weight" not in tensors:
        return tensors["decoder.embed.weight"].chunk(tp)[rank]
    return tensors[f"{layer}.weight"]
