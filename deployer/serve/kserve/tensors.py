"""Tensors of the protocol to plain Python values and back.

A tensor's values stand in typed `contents`, or for all tensors of a request in `raw_input_contents`:
little-endian numbers, and for BYTES each element behind its length in 4 bytes.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Value = bool | int | float | bytes

# The protocol's name of a type: numpy's, and the field of `contents` that holds it (none: raw only).
_TYPES: dict[str, tuple[str, str | None]] = {
    "BOOL": ("?", "bool_contents"),
    "INT8": ("<i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "FP16": ("<f2", None),
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
}


class TensorError(ValueError):
    """A tensor that does not hold what it says; the message names it."""


def read_tensors(request: Any) -> dict[str, list[Value]]:
    """Return the values of each input of a ModelInferRequest, in row-major order. Raises TensorError."""
    raws: Sequence[bytes] = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise TensorError(
            f"{len(request.inputs)} inputs, {len(raws)} in `raw_input_contents`: must be as many, in order"
        )
    found: dict[str, list[Value]] = {}
    for place, tensor in enumerate(request.inputs):
        if tensor.name in found:
            raise TensorError(f"input `{tensor.name}` is given twice")
        values = _raw(tensor, raws[place]) if raws else _typed(tensor)
        wanted = math.prod(tensor.shape)
        if len(values) != wanted:
            raise TensorError(
                f"input `{tensor.name}`: shape {list(tensor.shape)} is {wanted} values, not {len(values)}"
            )
        found[tensor.name] = values
    return found


def _typed(tensor: Any) -> list[Value]:
    if tensor.datatype == "BYTES":
        return list(tensor.contents.bytes_contents)
    _, field = _known_type(tensor)
    if field is None:
        raise TensorError(f"input `{tensor.name}`: {tensor.datatype} travels in `raw_input_contents` only")
    return list(getattr(tensor.contents, field))


def _raw(tensor: Any, raw: bytes) -> list[Value]:
    if tensor.datatype == "BYTES":
        return list(_elements(tensor.name, raw))
    dtype = np.dtype(_known_type(tensor)[0])
    if len(raw) % dtype.itemsize:
        raise TensorError(f"input `{tensor.name}`: {len(raw)} bytes are no whole number of {tensor.datatype}")
    values: list[Value] = np.frombuffer(raw, dtype).tolist()
    return values


def _elements(name: str, raw: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise TensorError(f"input `{name}`: {len(raw) - place} bytes are left where a length has 4")
        (size,) = struct.unpack_from("<I", raw, place)
        place += 4
        if place + size > len(raw):
            raise TensorError(f"input `{name}`: an element of {size} bytes, {len(raw) - place} are left")
        yield raw[place : place + size]
        place += size


def _known_type(tensor: Any) -> tuple[str, str | None]:
    if tensor.datatype not in _TYPES:
        raise TensorError(
            f"input `{tensor.name}`: datatype `{tensor.datatype}`: must be one of "
            + ", ".join(f"`{name}`" for name in sorted((*_TYPES, "BYTES")))
        )
    return _TYPES[tensor.datatype]


def add_output(response: Any, name: str, values: Sequence[bytes | int]) -> None:
    """Put a one-dimensional tensor into a ModelInferResponse: BYTES, or INT32 for numbers."""
    texts = [value for value in values if isinstance(value, bytes)]
    if len(texts) == len(values):
        kind, raw = "BYTES", b"".join(struct.pack("<I", len(text)) + text for text in texts)
    else:
        kind, raw = "INT32", np.array(values, "<i4").tobytes()
    response.outputs.add(name=name, datatype=kind, shape=[len(values)])
    response.raw_output_contents.append(raw)
