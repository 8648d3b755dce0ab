"""Tensor maps: what the copy engine of a Hopper GPU knows of a tensor, 128 bytes that the driver encodes.

A map belongs to an address, so launchers ask `Gpu.tensor_map`, which keeps what it encoded.
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.launch import driver, status_name

LINE_BYTES = 128  # what a box takes of a row
GROUP_ROWS = 8  # that the swizzle of lines repeats after
_MAP_BYTES = 128
_MAP_ALIGNMENT = 64

# CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion of cuda.h 13.0.
_DATA_TYPES = {torch.float16: 6, torch.bfloat16: 9}
_SWIZZLE_128 = 3
_PROMOTE_TO_256 = 3


class TensorView(NamedTuple):  # two are made a launch, as keys: a dataclass takes several times as long
    """A 16-bit tensor as the copy engine sees it, innermost dimension first, and the box a copy takes.

    The innermost dimension is contiguous and a box is at most 64 elements wide there, 128 bytes, which are
    written with the 128-byte swizzle. Elements outside `sizes` read as zeros.
    """

    address: int  # a multiple of 16
    dtype: torch.dtype
    sizes: tuple[int, ...]
    strides_bytes: tuple[int, ...]  # of dimensions 1 .., multiples of 16
    box: tuple[int, ...]


def lines(matrix: Tensor, box_rows: int) -> TensorView:
    """Return a matrix as rows of 128-byte lines; the copy engine takes any elements for 16-bit ones."""
    num_rows, bytes_a_row = matrix.shape[0], matrix.shape[1] * matrix.element_size()
    return TensorView(
        address=matrix.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(bytes_a_row // 2, num_rows),
        strides_bytes=(bytes_a_row,),
        box=(LINE_BYTES // 2, box_rows),
    )


def by_groups(matrix: Tensor, box_rows: int, *, halves: int) -> TensorView:
    """Return lines in groups of 8 rows; of two `halves` a box takes groups by turns."""
    num_rows, bytes_a_row = matrix.shape[0], matrix.shape[1] * matrix.element_size()
    half = num_rows // halves
    return TensorView(
        address=matrix.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(bytes_a_row // 2, GROUP_ROWS, halves, half // GROUP_ROWS),
        strides_bytes=(bytes_a_row, half * bytes_a_row, GROUP_ROWS * bytes_a_row),
        box=(LINE_BYTES // 2, GROUP_ROWS, halves, box_rows // halves // GROUP_ROWS),
    )


def encode(view: TensorView) -> bytes:
    """Return the map of a view. Raises KernelError where the driver refuses it."""
    rank = len(view.sizes)
    block = ctypes.create_string_buffer(_MAP_BYTES + _MAP_ALIGNMENT)
    start = -(-ctypes.addressof(block) // _MAP_ALIGNMENT) * _MAP_ALIGNMENT
    status = driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(start),
        _DATA_TYPES[view.dtype],
        rank,
        ctypes.c_void_p(view.address),
        (ctypes.c_uint64 * rank)(*view.sizes),
        (ctypes.c_uint64 * (rank - 1))(*view.strides_bytes),
        (ctypes.c_uint32 * rank)(*view.box),
        (ctypes.c_uint32 * rank)(*[1] * rank),
        0,  # not interleaved
        _SWIZZLE_128,
        _PROMOTE_TO_256,
        0,  # zeros outside
    )
    if status:
        raise KernelError(f"the CUDA driver could not map a tensor, {view}: {status_name(status)}")
    return ctypes.string_at(start, _MAP_BYTES)
