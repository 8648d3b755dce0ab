"""The second copies for decode among the named tensors of a network, made once its weights are there.

`engines/weights/decode_copy.py` says of which layers; `bf12_tiles.py` packs one of bf16, `fp7_tiles.py` one
of e4m3.
"""

import logging
import time
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from engines.memory.device_memory import capability, gpu_bytes
from engines.ops import Dense, Fp8
from engines.options import EngineOptions
from engines.quant.bf12_tiles import bf12_of
from engines.quant.fp7_tiles import fp7_of
from engines.quant.linear_tensors import bf12_tensors, fp7_tensors, linear_of
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
        "weights kept a second time for decode, %d layers of bf16 in 12 bits and %d of e4m3 in 7: %.2f GiB, "
        "packed in %.2f s",
        sum(name.endswith(".bf12_tiles") for name in copies),
        sum(name.endswith(".fp7_tiles") for name in copies),
        sum(copy.nbytes for copy in copies.values()) / 2**30,
        time.perf_counter() - started,
    )
    if without:
        _log.warning(
            "%d layers have no copy for decode, as it does not hold their numbers (NaNs, infinities, in bf16 "
            "65,536 and more): %s",
            len(without),
            ", ".join(without),
        )
    return copies


def _copy(tensors: Mapping[str, Tensor], layer: str, *, rank: int, tp: int) -> dict[str, Tensor]:
    """Return the tensors of a layer's copy; none where its numbers do not fit the format."""
    if layer == HEAD and f"{HEAD}.weight" not in tensors:
        return _in_12_bits(tensors["decoder.embed.weight"].chunk(tp)[rank], layer)
    weight = linear_of(tensors, layer)
    if isinstance(weight, Dense):
        return _in_12_bits(weight.weight_OI, layer)
    assert isinstance(weight, Fp8), f"`{layer}` is of bf16 or e4m3"
    fp7 = fp7_of(weight.weight_OI, weight.scale_O)
    return {} if fp7 is None else fp7_tensors(fp7, layer)


def _in_12_bits(weight_OI: Tensor, layer: str) -> dict[str, Tensor]:
    bf12 = bf12_of(weight_OI)
    return {} if bf12 is None else bf12_tensors(bf12, layer)
