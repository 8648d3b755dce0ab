"""Rows summed over ranks and normed; the others are played by the test, which lays out what they give."""

from functools import reduce

import pytest
import torch
from rank_slots import SlotGroup, packed

from engines.errors import KernelError
from engines.turbomind.ops.norm import add_rms_norm
from engines.turbomind.ops.quantize_rows import add_rms_norm_codes
from engines.turbomind.ops.sum_ranks_norm import sum_add_rms_norm, sum_add_rms_norm_codes, takes_rows
from engines.turbomind.rank_boxes import MOST_ROW_BYTES, most_rows

BF16 = torch.bfloat16
EPS = 1e-5


@pytest.mark.parametrize(("rank", "size"), [(0, 2), (1, 2), (2, 4)])
@pytest.mark.parametrize(("dtype", "hidden"), [(BF16, 1032), (BF16, 8192), (torch.float32, 260)])
def test_numbers_are_those_of_a_sum_and_a_norm_in_turn_and_each_rank_gives_all_others_its_rows(
    gpu, dtype: torch.dtype, hidden: int, rank: int, size: int
) -> None:
    group = SlotGroup(gpu, rank=rank, size=size)
    others = [other for other in range(size) if other != rank]
    summed = [0] * group.most  # how often each place was
    row_bytes = hidden * dtype.itemsize
    weight = torch.randn(hidden, device=gpu.device).to(dtype)
    for num_rows in (1, 5, 3, 1, 5):
        shares = [torch.randn(num_rows, hidden, device=gpu.device).to(dtype) for _ in range(size)]
        residual = torch.randn(num_rows, hidden, device=gpu.device).to(dtype)
        for row in range(num_rows):
            summed[row] += 1
            for source in others:
                words = group.words(rank, source, row, summed[row], row_bytes)
                words.copy_(packed(shares[source][row], summed[row]))
        found = sum_add_rms_norm(gpu, shares[rank], residual, weight, EPS, group.boxes)
        total = reduce(torch.add, [share.float() for share in shares]).to(dtype)
        for got, wanted in zip(found, add_rms_norm(gpu, total, residual, weight, EPS), strict=True):
            assert torch.equal(got, wanted)
        for other in others:
            for row in range(num_rows):
                words = group.words(other, rank, row, summed[row], row_bytes)
                assert torch.equal(words, packed(shares[rank][row], summed[row]))
    assert group.boxes.epochs_B.tolist() == summed


@pytest.mark.parametrize("code", [torch.int8, torch.float8_e4m3fn])
def test_codes_are_those_of_a_sum_and_a_norm_with_codes_in_turn(gpu, code: torch.dtype) -> None:
    group = SlotGroup(gpu, rank=1, size=2)
    shares = [torch.randn(3, 1032, device=gpu.device).to(BF16) for _ in range(2)]
    residual = torch.randn(3, 1032, device=gpu.device).to(BF16)
    weight = torch.randn(1032, device=gpu.device).to(BF16)
    for row in range(3):
        group.words(1, 0, row, 1, 2064).copy_(packed(shares[0][row], 1))
    found = sum_add_rms_norm_codes(gpu, shares[1], residual, weight, EPS, group.boxes, code)
    total = (shares[0].float() + shares[1].float()).to(BF16)
    for got, wanted in zip(found, add_rms_norm_codes(gpu, total, residual, weight, EPS, code), strict=True):
        assert torch.equal(got.view(torch.uint8), wanted.view(torch.uint8))


def test_rows_that_are_too_many_too_long_or_no_whole_pieces_are_refused(gpu) -> None:
    group = SlotGroup(gpu, rank=0, size=2)
    longest = MOST_ROW_BYTES // 2
    for shape, right in (
        ((most_rows(2), longest), True),
        ((most_rows(2) + 1, 64), False),
        ((1, longest + 8), False),
        ((1, 60), False),
        ((0, 64), False),
    ):
        assert takes_rows(torch.zeros(shape, dtype=BF16, device=gpu.device), 2) == right
    x = torch.zeros(most_rows(2) + 1, 64, dtype=BF16, device=gpu.device)
    with pytest.raises(KernelError, match="must be 1 to 64 rows"):
        sum_add_rms_norm(gpu, x, x, x[0], EPS, group.boxes)
