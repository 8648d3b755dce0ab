"""The second copies for decode among the named tensors of a network, made once its weights are there.

`engines/weights/decode_copy.py` says of which layers; `engines/quant/bf12_tiles.py` packs one.
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
from engines.weights.decode_copy import HEAD, decode_copy

_log = logging.getLogger(__name__)


def layers_to_copy(
    spec: ModelSpec, options: EngineOptions, *, device: torch.device, dtype: torch.dtype
) -> frozenset[str]:
    """Return the layers that a rank copies; where there are none and a share was given the log says why."""
    copy = decode_copy(
        spec,
        options,
        dtype=str(dtype).removeprefix("torch."),
        quant=spec.quantization,
        capability=capability(device),
        memory_bytes=gpu_bytes(device),
    )
    if copy.why_not is not None and options.decode_weights:
        _log.info("no second copy of the weights for decode: %s", copy.why_not)
    return frozenset(copy.layers)


def decode_copies(
    tensors: Mapping[str, Tensor], layers: Collection[str], *, rank: int, tp: int
) -> dict[str, Tensor]:
    """Return the copies of these layers by name, made on the device of the weights.

    A layer with numbers that its format does not hold gets none, and the log says which. A head without a
    table of its own is this rank's rows of the embedding.
    """
    if not layers:
        return {}
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()  # weights that are still on their way are not packing's time
    started = time.perf_counter()
    copies: dict[str, Tensor] = {}
    without = []
    for layer in sorted(layers):
        copy = _copy(tensors, layer, rank=rank, tp=tp)
        copies |= copy
        if not copy:
            without.append(layer)
    _log.info(
        "weights of %d layers kept a second time for decode, bf16 in 12 bits: %.2f GiB, packed in %.2f s",
        len(layers) - len(without),
        sum(copy.nbytes for copy in copies.values()) / 2**30,
        time.perf_counter() - started,
    )
    if without:
        _log.warning(
            "%d layers have weights of 65,536 and more, infinities or NaNs, and no copy for decode: %s",
            len(without),
            ", ".join(without),
        )
    return copies


def _copy(tensors: Mapping[str, Tensor], layer: str, *, rank: int, tp: int) -> dict[str, Tensor]:
    """Return the tensors of a layer's copy; none where its numbers do not fit the format."""
    if layer == HEAD and f"{HEAD}.weight" not in tensors:
        weight = tensors["decoder.embed.weight"].chunk(tp)[rank]
    else:
        weight = tensors[f"{layer}.weight"]
    bf12 = bf12_of(weight)
    return {} if bf12 is None else bf12_tensors(bf12, layer)
