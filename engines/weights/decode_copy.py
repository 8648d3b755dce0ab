"""Whether a rank keeps its weights a second time in fewer bits, for decode to read. Torch-free.

    bf12   of bf16, linear layers of the decoder and its head: 12 bits a weight
    fp7    of e4m3, linear layers of the decoder: 7 bits

All that may be copied, or none: half a copy would have steps of which nobody can say how fast they are. The
planner asks what the engine asks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from engines.options import EngineOptions
from engines.quant import bf12_shape, fp7_shape
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.weights.in_12_bits import lies_in_12_bits
from engines.weights.parameter import Parameter
from engines.weights.parameters import parameters
from engines.weights.quantized_bytes import is_quantized, parameter_bytes
from engines.weights.split import local_shape

CopyFormat = Literal["bf12", "fp7"]

HEAD = "decoder.head"
CAPABILITY = (9, 0)  # compute capability whose kernels read every copy
FEW_ROWS_CAPABILITY = (8, 0)  # from which on others read those of bf16, in steps of so many rows
FEW_ROWS = 16
# Rows of a step whose products read a copy on 9.0, at most; more rows read the weights.
MOST_ROWS: Mapping[CopyFormat, int] = {"bf12": 128, "fp7": 128}
MOST_ROWS_ALONE = 256  # the same of 12 bits that have no 16 beside them: more rows unpack them

_NO_TILES = (
    f"no layer is whole tiles of {bf12_shape.TILE_OUTPUTS} outputs and {bf12_shape.TILE_INPUTS} inputs, or "
    f"in e4m3 {fp7_shape.TILE_OUTPUTS} and {fp7_shape.TILE_INPUTS}"
)
FP7_ON_9_ALONE = "what reads e4m3 layers in 7 bits is made for compute capability 9.0"
_COPIED = re.compile(r"(decoder\.layers\.\d+\.(qkv|o|gate_up|down)|decoder\.head)\.weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCopy:
    """The copy of one layer on a rank, or of several in the same format."""

    format: CopyFormat
    num_bytes: int
    saved_bytes: int  # that a step which reads the copy does not read of the weights


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeCopy:
    """The second copy of a rank's weights."""

    wanted: Mapping[str, LayerCopy]  # of `decoder.layers.0.qkv` and the like, what there is or would be
    why_not: str | None  # why there is no copy; None: there is one

    @property
    def layers(self) -> Mapping[str, LayerCopy]:
        """The layers that have a copy, by name."""
        return self.wanted if self.why_not is None else {}

    @property
    def num_bytes(self) -> int:
        """What the copy takes on a rank."""
        return sum(layer.num_bytes for layer in self.layers.values())


def decode_copy(
    spec: ModelSpec,
    options: EngineOptions,
    *,
    dtype: str,
    quant: WeightQuant | None,
    capability: tuple[int, int] | None,
    memory_bytes: int,
) -> DecodeCopy:
    """Return the copy that a rank keeps on a device of so much memory, or why it keeps none.

    `dtype` is the compute dtype by torch's name, `capability` a GPU's compute capability; `quant` says what
    is in bf16 no more.
    """
    why_not = _why_nothing_reads_it(options, quant, dtype=dtype, capability=capability)
    if why_not is not None:
        return DecodeCopy(wanted={}, why_not=why_not)
    copies = layer_copies(spec, quant, tp=options.tp)
    wanted = {name: layer for name, layer in copies.items() if most_rows(layer.format, capability)}
    if not wanted:
        why_not = f"{FP7_ON_9_ALONE}, not {_version(capability)}" if copies else _NO_TILES
        return DecodeCopy(wanted={}, why_not=why_not)
    needed = sum(layer.num_bytes for layer in wanted.values())
    limit = options.decode_weights * memory_bytes
    if needed <= limit:
        return DecodeCopy(wanted=wanted, why_not=None)
    return DecodeCopy(
        wanted=wanted,
        why_not=(
            f"it takes {needed / 2**30:.2f} GiB, {needed / memory_bytes:.1%} of this GPU's memory, and "
            f"engine.decode_weights={options.decode_weights:g} allows {limit / 2**30:.2f} GiB"
        ),
    )


@lru_cache(maxsize=64)  # a plan prices a hundred changes, of which few touch a weight
def layer_copies(spec: ModelSpec, quant: WeightQuant | None, *, tp: int) -> Mapping[str, LayerCopy]:
    """Return the copies of a rank by layer, of those whose weights are whole tiles there."""
    found = (
        (parameter.name.removesuffix(".weight"), _copy_of(parameter, spec, quant, tp=tp))
        for parameter in parameters(spec)
        if may_be_copied(parameter.name)
    )
    return MappingProxyType({name: layer for name, layer in found if layer is not None})


@lru_cache(maxsize=64)
def bf12_alone(spec: ModelSpec, *, tp: int) -> Mapping[str, LayerCopy]:
    """Return what lies in 12 bits without a first copy where quantization.weights=bf12, by layer."""
    shapes = {
        parameter.name.removesuffix(".weight"): local_shape(parameter, tp=tp)
        for parameter in parameters(spec)
        if lies_in_12_bits(parameter, tp=tp)
    }
    return MappingProxyType(
        {
            name: _layer_copy("bf12", bf12_shape.bf12_bytes(outputs, inputs), 2 * outputs * inputs)
            for name, (outputs, inputs) in shapes.items()
        }
    )


def most_rows(form: CopyFormat, capability: tuple[int, int] | None) -> int:
    """Return the rows of a step whose products read such a copy, at most; more read the weights. 0: none."""
    if capability == CAPABILITY:
        return MOST_ROWS[form]
    few = form == "bf12" and capability is not None and capability >= FEW_ROWS_CAPABILITY
    return FEW_ROWS if few else 0


def may_be_copied(parameter_name: str) -> bool:
    """Tell whether a parameter is a weight that decode could read in fewer bits."""
    return _COPIED.fullmatch(parameter_name) is not None


def by_format(layers: Iterable[LayerCopy]) -> tuple[LayerCopy, ...]:
    """Return the sum of copies in each format that occurs."""
    sums: dict[CopyFormat, LayerCopy] = {}
    for layer in layers:
        before = sums.get(layer.format, LayerCopy(format=layer.format, num_bytes=0, saved_bytes=0))
        sums[layer.format] = LayerCopy(
            format=layer.format,
            num_bytes=before.num_bytes + layer.num_bytes,
            saved_bytes=before.saved_bytes + layer.saved_bytes,
        )
    return tuple(sums.values())


def _copy_of(
    parameter: Parameter, spec: ModelSpec, quant: WeightQuant | None, *, tp: int
) -> LayerCopy | None:
    """Return the copy of a parameter; None where its format or its shape on a rank has none."""
    outputs, inputs = local_shape(parameter, tp=tp)
    read = parameter_bytes(parameter, spec, quant, dtype_bytes=2, tp=tp)
    if quant is None or not is_quantized(parameter, spec, quant, tp=tp):
        if bf12_shape.takes_shape(outputs, inputs):
            return _layer_copy("bf12", bf12_shape.bf12_bytes(outputs, inputs), read)
    elif quant.format == "fp8" and fp7_shape.takes_shape(outputs, inputs):
        return _layer_copy("fp7", fp7_shape.fp7_bytes(outputs, inputs), read)
    return None


def _layer_copy(form: CopyFormat, num_bytes: int, read_bytes: int) -> LayerCopy:
    return LayerCopy(format=form, num_bytes=num_bytes, saved_bytes=read_bytes - num_bytes)


def _why_nothing_reads_it(
    options: EngineOptions,
    quant: WeightQuant | None,
    *,
    dtype: str,
    capability: tuple[int, int] | None,
) -> str | None:
    if options.decode_weights == 0:
        return "engine.decode_weights=0"
    if quant is not None and not quant.is_stored:
        return "quantization.weights=bf12: they lie in 12 bits already"
    if options.kind != "turbomind":
        return f"engine={options.kind} reads none"
    if dtype != "bfloat16":
        return f"an engine in {dtype} reads none, only one in bfloat16 does"
    if capability is None or capability < FEW_ROWS_CAPABILITY:
        return f"what reads it is made for compute capability 8.0 and newer, not {_version(capability)}"
    if capability != CAPABILITY and options.scheduler.max_batch_size > FEW_ROWS:
        return (
            f"on compute capability {_version(capability)} steps of up to {FEW_ROWS} rows read it, and "
            f"engine.max_batch_size={options.scheduler.max_batch_size} lets more sequences decode at once"
        )
    return None


def _version(capability: tuple[int, int] | None) -> str:
    return "none" if capability is None else ".".join(map(str, capability))
