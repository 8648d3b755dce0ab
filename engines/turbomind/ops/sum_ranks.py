"""Launches `kernels/sum_ranks.cu`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import scalar_name
from engines.turbomind.rank_boxes import BLOCK_BYTES, most_blocks

PIECE_BYTES = 16
THREADS = 256
assert PIECE_BYTES * THREADS == BLOCK_BYTES, "a piece a thread"


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """Where the ranks of one host give each other numbers, as one of them sees it."""

    rank: int
    size: int
    addresses_R: Tensor  # int64 on the device: the box of each rank
    epochs_B: Tensor  # int32 [most_blocks(size)], zero at first


def takes(x: Tensor, size: int) -> bool:
    """Whether `sum_ranks` sums this tensor."""
    num_bytes = x.numel() * x.element_size()
    fits = 0 < num_bytes <= most_blocks(size) * BLOCK_BYTES and num_bytes % PIECE_BYTES == 0
    return fits and x.is_floating_point() and x.is_contiguous() and x.data_ptr() % PIECE_BYTES == 0


def sum_ranks(gpu: Gpu, x: Tensor, boxes: Boxes) -> Tensor:
    """Write the sum over ranks into x and return it; every rank of the group must call it alike."""
    if not takes(x, boxes.size) or x.device != gpu.device:
        raise KernelError(
            f"`sum_ranks` of {list(x.shape)} on {x.device}: must be contiguous whole pieces of {PIECE_BYTES} "
            f"bytes on {gpu.device}, at most {most_blocks(boxes.size) * BLOCK_BYTES} bytes"
        )
    constants = (
        ("SCALAR", scalar_name("sum_ranks", x)),
        ("RANKS", boxes.size),
        ("MOST_BLOCKS", most_blocks(boxes.size)),
    )
    kernel = gpu.kernel("sum_ranks.cu", "sum_ranks", constants, "PPPii", threads=THREADS)
    num_pieces = x.numel() * x.element_size() // PIECE_BYTES
    kernel(
        gpu.stream(),
        (-(-num_pieces // THREADS), 1),
        x.data_ptr(),
        boxes.addresses_R.data_ptr(),
        boxes.epochs_B.data_ptr(),
        boxes.rank,
        num_pieces,
    )
    return x


def epochs(size: int, device: torch.device) -> Tensor:
    """Return the counters of a group that has summed nothing yet."""
    return torch.zeros(most_blocks(size), dtype=torch.int32, device=device)
