"""The numbers of Pillow's resizing in 8 bits: which pixels make a new one, and their weights. Torch-free.

Source: python-pillow/Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc). A new
pixel is a sum of integers, as weights are rounded to 22 bits behind the point: whoever adds the same products
gets the same bytes, in whatever order.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.vision.parts import Filter

PRECISION_BITS = 22
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # of a filter, in pixels of the smaller of the two sizes
_BICUBIC_A = -0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taps:
    """One axis of a resize: new pixel i is the sum over k of old pixel (first[i] + k) * weight[k, i].

    Behind the last pixel of a window weights are 0. Sums are rounded by half a unit and cut to 8 bits.
    """

    first_N: NDArray[np.int32]
    weight_KN: NDArray[np.int32]


@lru_cache(maxsize=64)
def taps(length: int, new_length: int, how: Filter) -> Taps:
    """Return how an axis of `length` pixels is resized; one that keeps its length keeps its pixels."""
    scale = length / new_length
    stretch = max(scale, 1.0)
    support = _SUPPORT[how] * stretch
    centre_N = (np.arange(new_length) + 0.5) * scale
    first_N = np.maximum((centre_N - support + 0.5).astype(np.int64), 0)
    end_N = np.minimum((centre_N + support + 0.5).astype(np.int64), length)
    offsets_K = np.arange(int((end_N - first_N).max()))
    at_NK = (offsets_K + first_N[:, None] - centre_N[:, None] + 0.5) * (1.0 / stretch)
    weight_NK = np.where(offsets_K < (end_N - first_N)[:, None], _filter(at_NK, how), 0.0)
    total_N = np.zeros(new_length)
    for k in offsets_K:  # in Pillow's order: sums of floating-point numbers depend on it
        total_N += weight_NK[:, k]
    fixed_NK = np.trunc(weight_NK / total_N[:, None] * (1 << PRECISION_BITS) + np.copysign(0.5, weight_NK))
    return Taps(first_N=first_N.astype(np.int32), weight_KN=np.ascontiguousarray(fixed_NK.T, dtype=np.int32))


def _filter(at: NDArray[np.float64], how: Filter) -> NDArray[np.float64]:
    x = np.abs(at)
    if how == "bilinear":
        return np.where(x < 1.0, 1.0 - x, 0.0)
    a = _BICUBIC_A
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
