"""The quantized linear layers of a checkpoint, unpacked row by row, whatever their files look like.

A checkpoint is seen through `PackedCheckpoint`: a layer's tensors are one entry, `<module>.weight` of the
shape [O, I] that it has unquantized, so that name rules and layouts act on it as on any other weight. The
public layouts, of a layer with O outputs, I inputs and G groups of inputs, words of 32 bits holding 8 codes:

    awq     qweight int32 [I, O/8]   nibble n of a word is output 8 w + (0, 2, 4, 6, 1, 3, 5, 7)[n]
            qzeros  int32 [G, O/8]   likewise         scales fp16 [G, O]
    gptq    qweight int32 [I/8, O]   nibble n of a word is input 8 w + n
            qzeros  int32 [G, O/8]   nibble n is output 8 w + n: the zero point less one (gptq_v2: itself)
            scales  fp16 [G, O]      g_idx int32 [I]: the group of each input; absent: inputs in order
    int8    weight int8 [O, I]       weight_scale [O, 1], [O] or one number
    fp8     weight e4m3 [O, I]       weight_scale likewise

Legend: R rows, a stretch of O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engines.errors import CheckpointError
from engines.memory.kv_layer import NIBBLE_ORDER
from engines.quant.weight_quant import WeightFormat, WeightQuant

# What may stand beside a packed layer's codes. Static scales of inputs are not used: rows get their own.
PACKED_SUFFIXES = (
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight",
    ".weight_scale",
    ".scale",
    ".input_scale",
)
EIGHT_BIT_DTYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A stretch of a layer's outputs."""

    codes_RI: Tensor  # uint8 0 to 15 in the order of `perm`; or int8; or e4m3
    scales_RG: Tensor  # fp16 [R, G]; 8 bits: fp32 [R, 1]
    zeros_RG: Tensor | None  # uint8 [R, G], 0 to 16; None: 8 bits


class PackedLayer(Protocol):
    """One quantized linear layer of a checkpoint."""

    shape: tuple[int, int]  # outputs, inputs
    perm_I: Tensor | None  # the input that each column of codes multiplies; None: its own

    def rows(self, start: int, length: int) -> Rows:
        """Return a stretch of the outputs."""
        ...


class Tensors(Protocol):
    """Named tensors of which stretches can be read: `engines.weights.checkpoint.Checkpoint`."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor."""
        ...

    def read(self, name: str, *, axis: int, start: int, length: int) -> Tensor:
        """Return a stretch of a tensor along axis 0 or 1."""
        ...


def packed_layers(tensors: Tensors, quant: WeightQuant, *, origin: str) -> dict[str, PackedLayer]:
    """Return the quantized layers of a checkpoint by module name.

    Raises CheckpointError, naming `origin`, where tensors are missing or contradict what config.json says.
    """
    suffix = ".qweight" if quant.is_4_bit else quant.scale_suffix
    modules = sorted(name.removesuffix(suffix) for name in tensors.shapes if name.endswith(suffix))
    if not modules:
        raise CheckpointError(
            f"no quantized layer in {origin}, whose config names {quant.format}: must hold tensors "
            f"`*{suffix}`; fetch the checkpoint again or take the quantization out of its config"
        )
    kind = KINDS[quant.format]
    layers: dict[str, PackedLayer] = {}
    faults: list[str] = []
    for module in modules:
        try:
            layers[module] = kind(tensors, module, quant)
        except (_LayerFault, KeyError) as fault:
            what = f"no tensor {fault}" if isinstance(fault, KeyError) else str(fault)
            faults.append(f"`{module}`: {what}")
    if faults:
        shown = "\n  ".join(faults[:8]) + (f"\n  and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise CheckpointError(
            f"{len(faults)} of {len(modules)} layers in {origin} are not packed as its config says "
            f"({quant.format}, group size {quant.group_size or 'of a whole layer'}): fetch the checkpoint "
            f"again or correct its config\n  {shown}"
        )
    return layers


def unpacked(words: Tensor) -> Tensor:
    """Return the nibbles of int32 words [..., W], lowest first, as uint8 [..., 8 W]."""
    shifts_8 = torch.arange(0, 32, 4, dtype=torch.int32)
    return ((words.unsqueeze(-1) >> shifts_8) & 15).to(torch.uint8).flatten(-2)


class _LayerFault(Exception):
    """What is wrong with one layer."""


class AwqLayer:
    """AutoAWQ's gemm layout."""

    def __init__(self, tensors: Tensors, module: str, quant: WeightQuant) -> None:
        self._tensors, self._module = tensors, module
        inputs, words = _words(tensors, f"{module}.qweight")
        self.shape = (8 * words, inputs)
        self.perm_I: Tensor | None = None
        groups = _num_groups(inputs, quant)
        _must_be(tensors, f"{module}.qzeros", (groups, words))
        _words(tensors, f"{module}.qzeros")
        _must_be(tensors, f"{module}.scales", (groups, 8 * words))

    def rows(self, start: int, length: int) -> Rows:
        """Return a stretch of the outputs."""
        first, last = start // 8, -(-(start + length) // 8)
        own = slice(start - 8 * first, start - 8 * first + length)

        def columns(name: str) -> Tensor:
            words = self._tensors.read(f"{self._module}.{name}", axis=1, start=first, length=last - first)
            nibbles_x8 = unpacked(words).view(len(words), -1, 8)
            order = [NIBBLE_ORDER.index(output) for output in range(8)]
            return nibbles_x8[..., order].flatten(1)[:, own].T

        scales = self._tensors.read(f"{self._module}.scales", axis=1, start=start, length=length)
        return Rows(codes_RI=columns("qweight"), scales_RG=scales.half().T, zeros_RG=columns("qzeros"))


class GptqLayer:
    """AutoGPTQ's layout; with act-order the columns are sorted by group."""

    def __init__(self, tensors: Tensors, module: str, quant: WeightQuant) -> None:
        self._tensors, self._module, self._offset = tensors, module, quant.zero_offset
        words, outputs = _words(tensors, f"{module}.qweight")
        inputs = 8 * words
        self.shape = (outputs, inputs)
        groups = _num_groups(inputs, quant)
        _must_be(tensors, f"{module}.qzeros", (groups, outputs // 8))
        _words(tensors, f"{module}.qzeros")
        _must_be(tensors, f"{module}.scales", (groups, outputs))
        self.perm_I = self._permutation(inputs, groups)

    def _permutation(self, inputs: int, groups: int) -> Tensor | None:
        name = f"{self._module}.g_idx"
        if name not in self._tensors.shapes:
            return None
        _must_be(self._tensors, name, (inputs,))
        group_I = self._tensors.read(name, axis=0, start=0, length=inputs).long()
        in_order_I = torch.arange(inputs) // (inputs // groups)
        if torch.equal(group_I, in_order_I):
            return None
        perm_I = torch.argsort(group_I, stable=True)
        if not torch.equal(group_I[perm_I], in_order_I):
            raise _LayerFault(f"g_idx does not put {inputs // groups} inputs into each of {groups} groups")
        return perm_I

    def rows(self, start: int, length: int) -> Rows:
        """Return a stretch of the outputs."""
        read, module = self._tensors.read, self._module
        words = read(f"{module}.qweight", axis=1, start=start, length=length)
        codes_RI = unpacked(words.T)
        first, last = start // 8, -(-(start + length) // 8)
        zeros = unpacked(read(f"{module}.qzeros", axis=1, start=first, length=last - first))
        zeros = zeros[:, start - 8 * first : start - 8 * first + length] + self._offset
        return Rows(
            codes_RI=codes_RI if self.perm_I is None else codes_RI[:, self.perm_I],
            scales_RG=read(f"{module}.scales", axis=1, start=start, length=length).half().T,
            zeros_RG=zeros.T,
        )


class EightBitLayer:
    """int8 and e4m3 weights with a scale an output, or one for all of them."""

    def __init__(self, tensors: Tensors, module: str, quant: WeightQuant) -> None:
        self._tensors, self._weight, self._scale = tensors, f"{module}.weight", module + quant.scale_suffix
        self.shape = _matrix(tensors, self._weight, EIGHT_BIT_DTYPES[quant.format])
        self.perm_I: Tensor | None = None
        outputs, shape = self.shape[0], tensors.shapes[self._scale]
        if shape not in ((outputs, 1), (outputs,), (1,), ()):
            raise _LayerFault(f"`{self._scale}` is {list(shape)}, must be a scale an output or one in all")

    def rows(self, start: int, length: int) -> Rows:
        """Return a stretch of the outputs."""
        shape = self._tensors.shapes[self._scale]
        if shape == ():
            scales = self._tensors.read(self._scale, axis=0, start=0, length=1)
        else:
            own = shape[0] > 1 or self.shape[0] == 1
            scales = self._tensors.read(
                self._scale, axis=0, start=start if own else 0, length=length if own else 1
            )
        return Rows(
            codes_RI=self._tensors.read(self._weight, axis=0, start=start, length=length),
            scales_RG=scales.float().reshape(-1, 1).expand(length, 1),
            zeros_RG=None,
        )


KINDS: Mapping[WeightFormat, Callable[[Tensors, str, WeightQuant], PackedLayer]] = {
    "awq": AwqLayer,
    "gptq": GptqLayer,
    "int8": EightBitLayer,
    "fp8": EightBitLayer,
}


def _num_groups(inputs: int, quant: WeightQuant) -> int:
    size = quant.group_size or inputs
    if inputs % size:
        raise _LayerFault(f"groups of {size} do not divide {inputs} inputs")
    return inputs // size


def _words(tensors: Tensors, name: str) -> tuple[int, int]:
    return _matrix(tensors, name, torch.int32)


def _matrix(tensors: Tensors, name: str, dtype: torch.dtype) -> tuple[int, int]:
    """Return the shape of a tensor that must be a matrix of this type."""
    shape = tensors.shapes[name]
    if len(shape) != 2:
        raise _LayerFault(f"`{name}` is {list(shape)}, must be a matrix")
    held = tensors.read(name, axis=0, start=0, length=1).dtype
    if held != dtype:
        raise _LayerFault(f"`{name}` is {held}, must be {dtype}")
    return shape[0], shape[1]


def _must_be(tensors: Tensors, name: str, shape: tuple[int, ...]) -> None:
    if tensors.shapes[name] != shape:
        raise _LayerFault(f"`{name}` is {list(tensors.shapes[name])}, must be {list(shape)}")
