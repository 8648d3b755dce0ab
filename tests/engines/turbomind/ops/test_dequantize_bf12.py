"""Numbers of 12 bits as a matrix: bit by bit the torch twin's."""

import pytest
import torch

from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.turbomind.ops.dequantize_bf12 import dequantize_bf12

BF16 = torch.bfloat16


def check(gpu, outputs: int, inputs: int) -> None:
    drawn = torch.randn(outputs, inputs, dtype=BF16, device=gpu.device)
    drawn *= 2.0 ** torch.randint(-40, 13, (outputs, 1), device=gpu.device)
    weight = bf12_of(drawn)
    assert weight is not None
    assert torch.equal(dequantize_bf12(gpu, weight).view(torch.int16), weight_of(weight).view(torch.int16))


# one tile; fewer slabs than a block has warps, several blocks of them, one warp of the last
@pytest.mark.parametrize("case", [(16, 128), (48, 640), (32, 1024), (16, 2176)], ids=str)
def test_a_matrix_is_the_twins(gpu, case) -> None:
    check(gpu, *case)


def test_numbers_of_every_size_are_the_twins(gpu) -> None:
    bits = torch.arange(1 << 15).to(torch.int16).view(256, 128)[14:142]  # exponent, mantissa; below 2^16
    signed = torch.cat([bits.T, bits.T | -0x8000])
    weight = bf12_of(signed.contiguous().view(BF16).to(gpu.device))
    assert weight is not None
    assert torch.equal(dequantize_bf12(gpu, weight).view(torch.int16), weight_of(weight).view(torch.int16))


@pytest.mark.gpu
@pytest.mark.parametrize("case", [(4096, 4096), (28672, 4096), (92608, 4096), (1152, 896)], ids=str)
def test_a_matrix_is_the_twins_at_model_sizes(cuda_gpu, case) -> None:
    check(cuda_gpu, *case)
