"""The linear layer for few rows against fp32."""

import pytest
import torch
from paged_attention import relative_error

from engines.errors import KernelError
from engines.ops import Dense
from engines.turbomind.ops.linear_skinny import fits, linear_skinny, skinny_shape

TOLERANCE = {torch.bfloat16: 2.5e-3, torch.float16: 4e-4}  # the result is rounded once
BF16, FP16 = torch.bfloat16, torch.float16
# dtype, rows, outputs, inputs, bias: one slab; outputs that end inside a tile; several passes
SMALL = [(BF16, 1, 34, 128, True), (FP16, 16, 200, 1280, True), (BF16, 9, 1000, 1152, False)]
MODELS = [
    (BF16, 1, 6144, 4096, True),
    (BF16, 7, 28672, 4096, False),
    (BF16, 8, 4096, 14336, False),
    (FP16, 16, 92608, 4096, False),
    (BF16, 3, 1152, 896, True),
]


def check(gpu, dtype: torch.dtype, num_rows: int, outputs: int, inputs: int, has_bias: bool) -> None:
    x = torch.randn(num_rows, inputs, dtype=dtype, device=gpu.device)
    weight = torch.randn(outputs, inputs, dtype=dtype, device=gpu.device)
    bias = torch.randn(outputs, dtype=dtype, device=gpu.device) if has_bias else None
    wanted = torch.nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
    got = linear_skinny(gpu, x, Dense(weight_OI=weight, bias_O=bias))
    assert relative_error(got, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_few_rows_equal_the_product_in_fp32(gpu, case) -> None:
    check(gpu, *case)


@pytest.mark.gpu
@pytest.mark.parametrize("case", MODELS, ids=str)
def test_few_rows_equal_the_product_in_fp32_at_model_sizes(cuda_gpu, case) -> None:
    check(cuda_gpu, *case)


def test_every_output_belongs_to_a_block_and_no_block_has_much_more_than_its_share() -> None:
    for num_rows in (1, 8, 16):
        for outputs in (34, 1152, 4096, 6144, 28672, 92608):
            shape = skinny_shape(num_rows=num_rows, num_outputs=outputs, num_sms=132, bytes_per_block=232448)
            per_block = 16 * shape.tiles * shape.passes
            assert per_block * 132 >= outputs
            assert per_block <= max(16, outputs / 132 * 1.2 + 16)
            assert shape.shared_bytes <= 232448


def test_what_the_kernel_does_not_take_is_left_to_the_general_product(gpu) -> None:
    weight = torch.zeros(64, 128, dtype=BF16, device=gpu.device)
    few, many = torch.zeros(16, 128, dtype=BF16), torch.zeros(17, 128, dtype=BF16)
    assert fits(gpu, few, Dense(weight_OI=weight, bias_O=None))
    assert not fits(gpu, many, Dense(weight_OI=weight, bias_O=None))
    assert not fits(gpu, few.float(), Dense(weight_OI=weight.float(), bias_O=None))
    assert not fits(gpu, few, Dense(weight_OI=weight[:63], bias_O=None))
    assert not fits(gpu, torch.zeros(1, 100, dtype=BF16), Dense(weight_OI=weight[:, :100], bias_O=None))


def test_inputs_that_are_no_multiple_of_a_slab_are_refused(gpu) -> None:
    x = torch.zeros(1, 100, dtype=BF16, device=gpu.device)
    with pytest.raises(KernelError, match="100 inputs and 64 outputs: inputs must be a multiple of 128"):
        linear_skinny(
            gpu, x, Dense(weight_OI=torch.zeros(64, 100, dtype=BF16, device=gpu.device), bias_O=None)
        )
