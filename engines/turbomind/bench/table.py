"""Rows of the kernel table and how they are printed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One kernel at one shape."""

    op: str
    shape: str
    us: float
    num_bytes: float = 0.0
    num_flops: float = 0.0
    rate: float = 1.0  # of the operands' format, in times of bf16's
    torch_us: float | None = None  # the same by torch, cuBLAS or cuDNN; None: not measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceilings:
    """What this GPU gives at most, measured in the same process."""

    gbps: float
    tflops: float


def heading() -> str:
    """Return the columns' names; `of limit` is the time no kernel can go below over the measured one."""
    return f"{'op':<20} {'shape':<32} {'us':>9} {'GB/s':>6} {'TFLOP/s':>8} {'of limit':>8} {'vs torch':>8}"


def line(row: Row, ceilings: Ceilings) -> str:
    """Return one row as text."""
    floor_us = max(row.num_bytes / ceilings.gbps / 1e3, row.num_flops / row.rate / ceilings.tflops / 1e6)
    versus = "" if row.torch_us is None else f"{row.torch_us / row.us:.2f}x"
    return (
        f"{row.op:<20} {row.shape:<32} {row.us:>9.2f} {row.num_bytes / row.us / 1e3:>6.0f} "
        f"{row.num_flops / row.us / 1e6:>8.1f} {100 * floor_us / row.us:>7.1f}% {versus:>8}"
    )
