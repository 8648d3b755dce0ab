"""One tensor of a network: its name, its shape, and how the ranks of a group share it. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# copy: all of it on every rank. rows, cols: a stretch of axis 0, axis 1. vocab: rows after padding their
# number. padded: all rows and the padding on every rank. first_rank: all of it on rank 0, zeros on the others
# (a bias that is added before the sum over ranks).
Split = Literal["copy", "rows", "cols", "vocab", "padded", "first_rank"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One of several matrices stored below each other in a fused parameter; ranks share it in whole units."""

    name: str
    num_units: int  # heads, or single rows
    unit_rows: int

    @property
    def num_rows(self) -> int:
        """Rows of the whole block."""
        return self.num_units * self.unit_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One tensor of a network."""

    name: str
    shape: tuple[int, ...]
    split: Split = "copy"
    blocks: tuple[Block, ...] = ()  # of axis 0
    optional: bool = False  # the checkpoint may lack it
    keeps_dtype: bool = False  # stays in the checkpoint's number format
    role: Literal["matrix", "norm", "bias", "embedding", "scale"] = "matrix"


def linear(
    name: str,
    shape: tuple[int, int],
    *,
    bias: bool,
    split: Split = "copy",
    blocks: tuple[Block, ...] = (),
) -> Iterator[Parameter]:
    """Yield weight [out, in] and, if it has one, bias of a linear layer."""
    yield Parameter(name=f"{name}.weight", shape=shape, split=split, blocks=blocks)
    if bias:
        bias_split: Split = "first_rank" if split == "cols" else split
        yield Parameter(name=f"{name}.bias", shape=shape[:1], split=bias_split, blocks=blocks, role="bias")


def norm(name: str, width: int, *, bias: bool = False) -> Iterator[Parameter]:
    """Yield weight and, for a layer norm, bias."""
    yield Parameter(name=f"{name}.weight", shape=(width,), role="norm")
    if bias:
        yield Parameter(name=f"{name}.bias", shape=(width,), role="bias")


def qkv_blocks(hidden: int) -> tuple[Block, ...]:
    """Return the blocks of a tower's fused q, k, v, which no rank cuts and a checkpoint may hold apart."""
    return tuple(Block(name=name, num_units=hidden, unit_rows=1) for name in ("q", "k", "v"))
