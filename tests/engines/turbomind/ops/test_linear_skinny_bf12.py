"""The linear layer of few rows with weights in 12 bits: to the bit where one number counts; against fp32."""

import pytest
import torch
from paged_attention import relative_error
from torch import Tensor
from torch.nn.functional import linear

from engines.errors import KernelError
from engines.ops import Bf12
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.turbomind.ops.linear_skinny_bf12 import bf12_skinny_shape, fits, linear_skinny_bf12

BF16 = torch.bfloat16
TOLERANCE = 2.5e-3  # the result is rounded once
# rows, outputs, inputs, bias: one slab; outputs that end inside a pass; several passes, two columns of rows
SMALL = [(1, 48, 128, True), (8, 208, 1280, False), (9, 1008, 1152, True), (16, 96, 2048, False)]
MODELS = [
    (1, 6144, 4096, True),
    (7, 28672, 4096, False),
    (8, 4096, 14336, False),
    (16, 92608, 4096, False),
    (3, 1152, 896, True),
]


def packed(weight_OI: Tensor) -> Bf12:
    weight = bf12_of(weight_OI)
    assert weight is not None
    return weight


def check(gpu, num_rows: int, outputs: int, inputs: int, has_bias: bool) -> None:
    x = torch.randn(num_rows, inputs, dtype=BF16, device=gpu.device)
    weight = packed(torch.randn(outputs, inputs, dtype=BF16, device=gpu.device))
    bias = torch.randn(outputs, dtype=BF16, device=gpu.device) if has_bias else None
    wanted = linear(x.float(), weight_of(weight).float(), None if bias is None else bias.float())
    assert relative_error(linear_skinny_bf12(gpu, x, weight, bias), wanted) < TOLERANCE


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_few_rows_equal_the_product_in_fp32(gpu, case) -> None:
    check(gpu, *case)


@pytest.mark.gpu
@pytest.mark.parametrize("case", MODELS, ids=str)
def test_few_rows_equal_the_product_in_fp32_at_model_sizes(cuda_gpu, case) -> None:
    check(cuda_gpu, *case)


def test_numbers_of_every_size_reach_the_product_to_the_bit(gpu) -> None:
    outputs, inputs = 32, 128
    bits = torch.randint(0, 1 << 15, (outputs, inputs), dtype=torch.int16)  # positive
    largest = torch.linspace(1, 142, outputs).to(torch.int16) << 7  # of a row: from subnormals to 2^16
    bits = bits % largest[:, None]
    bits[:, 1::2] |= -0x8000
    weight = packed(bits.view(BF16).to(gpu.device))
    x = torch.eye(inputs, dtype=BF16, device=gpu.device)
    for first in range(0, inputs, 16):
        got = linear_skinny_bf12(gpu, x[first : first + 16], weight, None)
        # Products of the tensor cores add to +0, so a zero loses its sign there, and nothing else does.
        wanted = (weight_of(weight).T[first : first + 16] + 0.0).contiguous()
        assert torch.equal(got.view(torch.int16), wanted.view(torch.int16))


@pytest.mark.parametrize("device", [(108, 166_912), (84, 101_376), (142, 101_376), (132, 232_448)], ids=str)
def test_every_output_belongs_to_a_block_on_every_gpu(device) -> None:
    num_sms, bytes_per_block = device  # A100, A10, L40S, H200
    for num_rows in (1, 8, 16):
        for outputs in (48, 1152, 4096, 6144, 28672, 92608):
            shape = bf12_skinny_shape(
                num_rows=num_rows, num_outputs=outputs, num_sms=num_sms, bytes_per_block=bytes_per_block
            )
            assert shape.block_outputs * num_sms >= outputs
            assert shape.shared_bytes <= bytes_per_block
            assert shape.stages >= 4


def test_what_the_kernel_does_not_take_is_left_to_others(gpu) -> None:
    assert fits(gpu, 1, BF16) and fits(gpu, 16, BF16)
    assert not fits(gpu, 0, BF16) and not fits(gpu, 17, BF16)
    assert not fits(gpu, 1, torch.float16)


def test_a_gpu_of_little_shared_memory_is_refused() -> None:
    with pytest.raises(KernelError, match="10000 bytes of shared memory a block are too few"):
        bf12_skinny_shape(num_rows=8, num_outputs=4096, num_sms=8, bytes_per_block=10000)
