"""Quantized pages as numbers: the torch twin's, packed in the order of the sequences."""

import pytest
import torch
from paged_attention import make_batch, make_pages, quantized

from engines.errors import KernelError
from engines.options import KvFormat
from engines.turbomind.ops.dequantize_pages import dequantize_pages

LENGTHS = [20, 0, 1, 64]


@pytest.mark.parametrize("room", [7, 9])
@pytest.mark.parametrize(("dtype", "dim"), [(torch.bfloat16, 128), (torch.float16, 96)])
@pytest.mark.parametrize("format", ["bf12", "int8", "int4", "fp8"])
def test_pages_are_packed_as_numbers(gpu, format: KvFormat, dtype: torch.dtype, dim: int, room: int) -> None:
    batch, num_pages = make_batch([1, 0, 1, 1], LENGTHS, page_tokens=16, device=gpu.device)
    stored, numbers = quantized(
        make_pages(batch, num_pages, num_kv_heads=2, page_tokens=16, dim=dim, dtype=dtype), format
    )
    plain, places = dequantize_pages(
        gpu, stored, batch.pages_BP, batch.kv_lens_B, room=room, dim=dim, dtype=dtype
    )
    assert places[[0, 2, 3]].tolist() == [[0, 1, 0, 0], [2, 0, 0, 0], [3, 4, 5, 6]]
    for b, length in enumerate(LENGTHS):
        for p in range(-(-length // 16)):
            held = min(16, length - p * 16)
            for got, wanted in (
                (plain.keys_PKTD, numbers.keys_PKTD),
                (plain.values_PKTD, numbers.values_PKTD),
            ):
                row = wanted[batch.pages_BP[b, p], :, :held].to(dtype)
                torch.testing.assert_close(got[places[b, p], :, :held], row, rtol=2**-7, atol=2**-9)


def test_pages_of_many_sequences_find_their_places(gpu) -> None:
    lengths = [33 * i % 50 for i in range(70)]
    batch, num_pages = make_batch([0] * 70, lengths, page_tokens=16, device=gpu.device)
    stored, _ = quantized(
        make_pages(batch, num_pages, num_kv_heads=1, page_tokens=16, dim=32, dtype=torch.bfloat16), "int8"
    )
    counts = [-(-length // 16) for length in lengths]
    _, places = dequantize_pages(
        gpu, stored, batch.pages_BP, batch.kv_lens_B, room=sum(counts), dim=32, dtype=torch.bfloat16
    )
    held = [place for row, count in zip(places.tolist(), counts, strict=True) for place in row[:count]]
    assert held == list(range(sum(counts)))


def test_numbers_of_32_bits_are_refused(gpu) -> None:
    batch, num_pages = make_batch([1], [20], page_tokens=16, device=gpu.device)
    stored, _ = quantized(
        make_pages(batch, num_pages, num_kv_heads=2, page_tokens=16, dim=64, dtype=torch.float32), "int8"
    )
    with pytest.raises(KernelError, match=r"must be torch\.bfloat16 or torch\.float16"):
        dequantize_pages(gpu, stored, batch.pages_BP, batch.kv_lens_B, room=2, dim=64, dtype=torch.float32)
