"""4-bit codes as a matrix: bit by bit the torch twin's."""

import pytest
import torch

from engines.quant.int4_tiles import dequantize, linear_int4
from engines.turbomind.ops.dequantize_int4 import dequantize_int4


# outputs that end inside a tile; more tiles than a block's; groups below, at and above a tile
@pytest.mark.parametrize(
    "case", [(16, 64, 64), (40, 640, 32), (8, 1280, 128), (24, 576, 16), (8, 2112, 64)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_matrix_is_the_twins(gpu, dtype, case) -> None:
    outputs, inputs, size = case
    layer = linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=torch.rand(inputs // size, outputs, device=gpu.device).half(),
        zeros_GO=torch.randint(0, 17, (inputs // size, outputs), dtype=torch.uint8, device=gpu.device),
    )
    assert torch.equal(dequantize_int4(gpu, layer, dtype), dequantize(layer, dtype))
