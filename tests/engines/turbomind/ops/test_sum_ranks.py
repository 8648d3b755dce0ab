"""Sums over ranks, the others played by the test: what they give lies in the box, and so do their flags."""

from collections import Counter
from functools import reduce

import pytest
import torch

from engines.errors import KernelError
from engines.turbomind.ops.sum_ranks import (
    PIECE_BYTES,
    Boxes,
    epochs,
    sum_ranks,
    takes,
)
from engines.turbomind.rank_boxes import BLOCK_BYTES, box_bytes, most_blocks

BF16 = torch.bfloat16


class Group:
    """The boxes of all ranks on one device; the sums are those of one of them."""

    def __init__(self, gpu, *, rank: int, size: int) -> None:
        self.gpu, self.rank, self.size, self.most = gpu, rank, size, most_blocks(size)
        empty = torch.zeros(size, box_bytes(size), dtype=torch.uint8, device=gpu.device)
        self.memory = list(empty)
        self.boxes = Boxes(
            rank=rank,
            size=size,
            addresses_R=torch.tensor([box.data_ptr() for box in self.memory], device=gpu.device),
            epochs_B=epochs(size, gpu.device),
        )

    def given(self, box: int, source: int, block: int, epoch: int, num_bytes: int) -> torch.Tensor:
        """Return where a rank finds what another has given it for one block."""
        start = ((epoch % 2 * self.size + source) * self.most + block) * BLOCK_BYTES
        return self.memory[box][start : start + num_bytes]

    def flags(self, box: int, source: int) -> torch.Tensor:
        """Return the flags of a rank's blocks in a box."""
        start = 2 * self.size * self.most * BLOCK_BYTES + 4 * source * self.most
        return self.memory[box][start : start + 4 * self.most].view(torch.int32)


@pytest.mark.parametrize(("rank", "size"), [(0, 2), (1, 2), (2, 4)])
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_sums_are_taken_in_fp32_and_each_rank_gives_all_others_what_it_has(
    gpu, dtype: torch.dtype, rank: int, size: int
) -> None:
    group = Group(gpu, rank=rank, size=size)
    others = [other for other in range(size) if other != rank]
    counts: Counter[int] = Counter()  # sums of each block
    for turn, rows in enumerate((1, 5, 3, 1, 5)):
        shares = [torch.randn(rows, 1000, device=gpu.device).to(dtype) for _ in range(size)]
        blocks = [share.view(torch.uint8).view(-1).split(BLOCK_BYTES) for share in shares]
        counts.update(range(len(blocks[0])))
        for source in others:
            for number, block in enumerate(blocks[source]):
                group.given(rank, source, number, counts[number], len(block)).copy_(block)
                group.flags(rank, source)[number] = counts[number] + turn % 2  # or the next sum's already
        found = sum_ranks(gpu, shares[rank].clone(), group.boxes)
        wanted = reduce(torch.add, [share.float() for share in shares])
        assert torch.equal(found, wanted.to(dtype))
        for box in others:
            for number, block in enumerate(blocks[rank]):
                assert torch.equal(group.given(box, rank, number, counts[number], len(block)), block)
                assert group.flags(box, rank)[number] == counts[number]


def test_what_is_too_large_or_no_whole_pieces_is_refused(gpu) -> None:
    group = Group(gpu, rank=0, size=2)
    most = most_blocks(2) * BLOCK_BYTES
    for x, right in (
        (torch.zeros(most // 2, dtype=BF16, device=gpu.device), True),
        (torch.zeros(most // 2 + 8, dtype=BF16, device=gpu.device), False),
        (torch.zeros(PIECE_BYTES // 2 + 1, dtype=BF16, device=gpu.device), False),
        (torch.zeros(0, dtype=BF16, device=gpu.device), False),
        (torch.zeros(8, 16, dtype=BF16, device=gpu.device)[:, :8], False),
    ):
        assert takes(x, 2) == right
    with pytest.raises(KernelError, match="at most 8388608 bytes"):
        sum_ranks(gpu, torch.zeros(most // 2 + 8, dtype=BF16, device=gpu.device), group.boxes)
