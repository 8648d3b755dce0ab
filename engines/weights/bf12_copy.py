"""Whether a rank keeps its bf16 weights a second time in 12 bits, for decode to read. Torch-free.

All that the decoder has in bf16, linear layers and head (of a quantized checkpoint the head), or none:
half a copy would have steps of which nobody can say how fast they are. The planner asks what the engine asks.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from engines.options import EngineOptions
from engines.quant.bf12_shape import bf12_bytes, takes_shape
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.weights.parameters import parameters
from engines.weights.quantized_bytes import is_quantized
from engines.weights.split import local_shape

HEAD = "decoder.head"
MOST_ROWS = 128  # of a step whose products read the copy; more rows read the weights
CAPABILITY = (9, 0)  # compute capability that its kernels are made for

_COPIED = re.compile(r"(decoder\.layers\.\d+\.(qkv|o|gate_up|down)|decoder\.head)\.weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bf12Copy:
    """The second copy of a rank's weights."""

    bytes_by_layer: Mapping[str, int]  # `decoder.layers.0.qkv` and the like, what each takes or would take
    why_not: str | None  # why there is no copy; None: there is one

    @property
    def layers(self) -> frozenset[str]:
        """The layers that have a copy."""
        return frozenset(self.bytes_by_layer) if self.why_not is None else frozenset()

    @property
    def num_bytes(self) -> int:
        """What the copy takes on a rank."""
        return sum(self.bytes_by_layer.values()) if self.why_not is None else 0


def bf12_copy(
    spec: ModelSpec,
    options: EngineOptions,
    *,
    dtype: str,
    quant: WeightQuant | None,
    capability: tuple[int, int] | None,
    memory_bytes: int,
) -> Bf12Copy:
    """Return the copy that a rank keeps on a device of so much memory, or why it keeps none.

    `dtype` is the compute dtype by torch's name, `capability` a GPU's compute capability; `quant` says what
    is in bf16 no more.
    """
    why_not = _why_nothing_reads_it(options, dtype=dtype, capability=capability)
    if why_not is not None:
        return Bf12Copy(bytes_by_layer={}, why_not=why_not)
    layers = copied_layers(spec, quant, tp=options.tp)
    if not layers:
        return Bf12Copy(bytes_by_layer={}, why_not="no layer is whole tiles of 16 outputs and 128 inputs")
    needed, limit = sum(layers.values()), options.bf12_weights * memory_bytes
    if needed <= limit:
        return Bf12Copy(bytes_by_layer=layers, why_not=None)
    return Bf12Copy(
        bytes_by_layer=layers,
        why_not=(
            f"it takes {needed / 2**30:.2f} GiB, {needed / memory_bytes:.1%} of this GPU's memory, and "
            f"engine.bf12_weights={options.bf12_weights:g} allows {limit / 2**30:.2f} GiB"
        ),
    )


def copied_layers(spec: ModelSpec, quant: WeightQuant | None, *, tp: int) -> dict[str, int]:
    """Return the bytes of each layer in 12 bits on one rank, of those in bf16 that are whole tiles there."""
    layers = {}
    for parameter in parameters(spec):
        quantized = quant is not None and is_quantized(parameter, spec, quant)
        if may_be_copied(parameter.name) and not quantized:
            outputs, inputs = local_shape(parameter, tp=tp)
            if takes_shape(outputs, inputs):
                layers[parameter.name.removesuffix(".weight")] = bf12_bytes(outputs, inputs)
    return layers


def may_be_copied(parameter_name: str) -> bool:
    """Tell whether a parameter is a weight that decode could read in 12 bits."""
    return _COPIED.fullmatch(parameter_name) is not None


def saved_bytes(spec: ModelSpec, layers: Collection[str], *, tp: int) -> dict[str, int]:
    """Return what a step does not read of each of these layers on one rank, as it reads the copy."""
    saved = {}
    for parameter in parameters(spec):
        name = parameter.name.removesuffix(".weight")
        if name in layers and parameter.name.endswith(".weight"):
            outputs, inputs = local_shape(parameter, tp=tp)
            saved[name] = 2 * outputs * inputs - bf12_bytes(outputs, inputs)
    return saved


def _why_nothing_reads_it(
    options: EngineOptions, *, dtype: str, capability: tuple[int, int] | None
) -> str | None:
    if options.bf12_weights == 0:
        return "engine.bf12_weights=0"
    if options.kind != "turbomind":
        return f"engine={options.kind} reads none"
    if dtype != "bfloat16":
        return f"weights are in {dtype}, and only bfloat16 is packed"
    if capability != CAPABILITY:
        has = "none" if capability is None else ".".join(map(str, capability))
        return f"what reads it is made for compute capability {'.'.join(map(str, CAPABILITY))}, not {has}"
    return None
