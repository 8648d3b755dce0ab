"""How `kernels/device/flash_hopper.cuh` is cut, and for which heads. Pure; shared by its two launchers."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from engines.memory.kv_bytes import num_scales, row_bytes
from engines.options import KvFormat
from engines.turbomind.cubins import Constants

_ALIGNMENT_BYTES = 1008  # between the first multiple of 16 in shared memory and the first of 1,024
_BARRIER_BYTES = 512  # at least: barriers, items, two numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class HopperShape:
    """How a block is cut; the names are those of the kernel's constants."""

    keys: int
    consumers: int
    stages: int
    queries: int = 2
    overlap: bool = True
    turns: bool = True
    tensor_copies: bool = True
    slack: int = 8
    code_stages: int = 0  # tiles of codes under way; 0: keys and values are numbers
    producers: int = 1  # warpgroups that copy, and decode codes
    least_tiles: int = 4  # of a part of an item: fewer take less time than to be summed
    lone: bool = False  # the query behind whole items is answered beside them

    @property
    def rows(self) -> int:
        """Query rows of an item."""
        return 64 * self.consumers

    @property
    def threads(self) -> int:
        """Threads of a block: the consumers' and those that copy."""
        return 128 * (self.consumers + self.producers)

    def shared_bytes(self, dim: int, format: KvFormat = "none") -> int:
        """Return the shared memory a block needs: the kernel's `Layout` and what aligns it."""
        row = 128 * math.ceil(dim / 64)
        tiles = (self.queries * self.rows + 2 * self.stages * self.keys) * row
        code_row = row_bytes(dim, format, dtype_bytes=2) + 2 * num_scales(format)
        return tiles + self.code_stages * self.keys * code_row + _BARRIER_BYTES + _ALIGNMENT_BYTES

    def leaves_one(self, length: int) -> bool:
        """Return whether images of this length are whole items and one query."""
        return length > self.rows and length % self.rows == 1

    def num_blocks(self, length: int) -> int:
        """Return how many items a head of an image is."""
        return length // self.rows if self.lone else math.ceil(length / self.rows)

    def share_bytes(self, dim: int) -> int:
        """Return the bytes of 64 rows that are left for another block: fp32 sums, peaks and weights."""
        columns = max(64, math.ceil(dim / 16) * 16)
        return 64 * (columns + 8) * 4

    def constants(self, scalar: str, dim: int) -> Constants:
        """Return what `flash_hopper.cuh` asks for with -D."""
        return (
            ("SCALAR", scalar),
            ("DIM", dim),
            ("KEYS", self.keys),
            ("CONSUMERS", self.consumers),
            ("STAGES", self.stages),
            ("QUERIES", self.queries),
            ("OVERLAP", int(self.overlap)),
            ("TURNS", int(self.turns)),
            ("TENSOR_COPIES", int(self.tensor_copies)),
            ("SLACK", self.slack),
            ("CODE_STAGES", self.code_stages),
            ("PRODUCERS", self.producers),
            ("LEAST_TILES", self.least_tiles),
            ("LONE", int(self.lone)),
        )


@lru_cache(maxsize=256)
def prefill_shape(
    capability: tuple[int, int], *, dim: int, page_tokens: int, items: int, num_sms: int
) -> HopperShape | None:
    """Return how prefill attention is cut, None where Hopper's kernel does not run it.

    `items` are the blocks of 128 rows that the step has at most; where they leave half of the GPU without
    work, items of 64 rows do better.
    """
    if not runs_on(capability, dim) or page_tokens % 8:
        return None
    if dim > 128:
        return HopperShape(keys=64, consumers=2, stages=2, queries=1)
    return HopperShape(keys=128, consumers=1 if 2 * items <= num_sms else 2, stages=2)


@lru_cache(maxsize=256)
def codes_shape(
    capability: tuple[int, int], *, dim: int, page_tokens: int, items: int, num_sms: int, format: KvFormat
) -> HopperShape | None:
    """Return how prefill attention that reads codes is cut, None where Hopper's kernel does not.

    As `prefill_shape`; wide heads must be whole column blocks, whose rows two threads share.
    """
    shape = prefill_shape(capability, dim=dim, page_tokens=page_tokens, items=items, num_sms=num_sms)
    if shape is None or (dim > 128 and dim % 64):
        return None
    producers = 2 if dim <= 128 else 1  # wide sums leave no registers
    if format == "bf12":  # half as much again for codes leaves no room for the next item's queries
        return replace(shape, code_stages=2 if dim <= 128 else 1, producers=producers, queries=1)
    return replace(shape, code_stages=2, producers=producers)


@lru_cache(maxsize=256)
def full_shape(
    capability: tuple[int, int], *, dim: int, length: int, pairs: int, num_sms: int
) -> HopperShape | None:
    """Return how attention inside images is cut, None where Hopper's kernel does not run it.

    `pairs` are the heads of all images. Of the cuts for the head the one whose rounds take the least time;
    one query behind whole items may be answered beside them.
    """
    if not runs_on(capability, dim):
        return None
    if dim > 96:
        return HopperShape(keys=80, consumers=2, stages=3) if dim <= 128 else _WIDEST
    cuts = [
        (time, shape)
        for time, shape in (_HEADS_64 if dim <= 64 else _HEADS_96)
        if not shape.lone or (pairs <= MOST_LONE and shape.leaves_one(length))
    ]

    def time_of(cut: tuple[float, HopperShape]) -> float:
        time, shape = cut
        rounds = math.ceil(pairs * shape.num_blocks(length) / num_sms)
        return rounds * time * math.ceil(length / shape.keys) * shape.keys

    return min(cuts, key=time_of)[1]


# Cuts of full attention by the head's size, and an item's nanoseconds per key (one H200, kernels/LOG.md).
# Three consumers or four in turn hide enough of their products to need no overlap; a lone query of heads of
# more than 64 costs its item more than the rounds that it saves.
_HEADS_64 = (
    (21.8, HopperShape(keys=80, consumers=4, stages=3, overlap=False, lone=True)),
    (18.9, HopperShape(keys=80, consumers=4, stages=3, overlap=False)),
    (13.9, HopperShape(keys=176, consumers=3, stages=2, overlap=False)),
    (12.9, HopperShape(keys=176, consumers=2, stages=2, lone=True)),
    (11.2, HopperShape(keys=176, consumers=2, stages=2)),
)
_HEADS_96 = (
    (18.6, HopperShape(keys=80, consumers=3, stages=3, overlap=False)),
    (15.1, HopperShape(keys=80, consumers=2, stages=3)),
)
_WIDEST = HopperShape(keys=64, consumers=2, stages=2, queries=1)
MOST_LONE = 4096  # lone queries that are counted at a time


def runs_on(capability: tuple[int, int], dim: int) -> bool:
    """Return whether the GPU has warpgroup products, and one that is as wide as the head (hopper.cuh)."""
    columns = max(64, math.ceil(dim / 16) * 16)
    return capability == (9, 0) and dim % 8 == 0 and (columns <= 208 or columns == 256)


def box_keys(keys: int, page_tokens: int) -> int:
    """Return how many keys one tensor copy takes: those of a page, or of a tile, that lie in one piece."""
    return math.gcd(keys, page_tokens)
