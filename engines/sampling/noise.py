"""Noise for sampling that depends on nothing but (seed, output position, token id).

Adding Gumbel noise to logits and taking the largest draws from their softmax. Here the noise is a hash, so
a sequence draws the same tokens alone or in any batch, before and after a preemption, on CPU and GPU. The
recipe, for kernels:

    a = splitmix64(seed)            seed as an unsigned 64-bit number
    b = splitmix64(a + position)    position in the output, from 0; sum modulo 2^64
    h = fmix32(fmix32(token * 0x9E3779B9 + lo32(b)) ^ hi32(b))        modulo 2^32
    v = min((float32(h) + 0.5) * 2^-32, 1 - 2^-24)
    g = -log(-log1p(-v))            float32

    splitmix64(x):  x += 0x9E3779B97F4A7C15;  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
                    x = (x ^ x >> 27) * 0x94D049BB133111EB;  x ^ x >> 31
    fmix32(x):      x = (x ^ x >> 16) * 0x85EBCA6B;  x = (x ^ x >> 13) * 0xC2B2AE35;  x ^ x >> 16

splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014; fmix32:
MurmurHash3's finalizer, Appleby. Small v make large g, and float32 is finest near zero, so the tail that
decides between tokens is exact to 2^-32.

Legend: R rows, V vocabulary.
"""

from collections.abc import Sequence as Seq

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MASK_32 = (1 << 32) - 1
MASK_64 = (1 << 64) - 1
BELOW_ONE = 1 - 2**-24

# As signed 32-bit numbers: times 32 bits they stay within int64, and the low 32 bits are the same.
GOLDEN = 0x9E3779B9 - (1 << 32)
MIX_1 = 0x85EBCA6B - (1 << 32)
MIX_2 = 0xC2B2AE35 - (1 << 32)


def noise_key(seed: int, position: int) -> tuple[int, int]:
    """Return (lo32, hi32) for one row; any integer is a seed, modulo 2^64."""
    key = _splitmix64((_splitmix64(seed & MASK_64) + position) & MASK_64)
    return key & MASK_32, key >> 32


def noise_keys(seeds: Seq[int], positions: Seq[int]) -> NDArray[np.uint64]:
    """Return `noise_key` of many rows, [R, 2]."""
    first_R = _splitmix64s(np.array([seed & MASK_64 for seed in seeds], dtype=np.uint64))
    key_R = _splitmix64s(first_R + np.array(positions, dtype=np.uint64))
    return np.stack([key_R & np.uint64(MASK_32), key_R >> np.uint64(32)], axis=1)


def gumbel_noise(keys_R2: Tensor, vocab: int) -> Tensor:
    """Return float32 Gumbel noise [R, V] for int64 rows of `noise_key`."""
    token_V = torch.arange(vocab, dtype=torch.int64, device=keys_R2.device)
    hash_RV = _fmix32((token_V * GOLDEN + keys_R2[:, :1]) & MASK_32)
    hash_RV = _fmix32(hash_RV ^ keys_R2[:, 1:])
    uniform_RV = hash_RV.to(torch.float32).add_(0.5).mul_(2**-32).clamp_(max=BELOW_ONE)
    return uniform_RV.neg_().log1p_().neg_().log_().neg_()


def _fmix32(x: Tensor) -> Tensor:
    x = (x ^ (x >> 16)) * MIX_1 & MASK_32
    x = (x ^ (x >> 13)) * MIX_2 & MASK_32
    return x ^ (x >> 16)


def _splitmix64s(x_R: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return `_splitmix64` of each; sums and products of arrays are modulo 2^64."""
    x_R = x_R + np.uint64(0x9E3779B97F4A7C15)
    x_R = (x_R ^ (x_R >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_R = (x_R ^ (x_R >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_R ^ (x_R >> np.uint64(31))


def _splitmix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return x ^ (x >> 31)
