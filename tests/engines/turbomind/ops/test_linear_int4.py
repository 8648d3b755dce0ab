"""The linear layer of 4-bit codes on warpgroup products: against what the codes stand for in fp32."""

import pytest
import torch
from paged_attention import relative_error

from engines.ops import Int4
from engines.quant.int4_tiles import dequantize
from engines.quant.int4_tiles import linear_int4 as make_int4
from engines.turbomind.ops.linear_int4 import Int4Cut, linear_int4, make_cut

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 2.5e-3, FP16: 4e-4}  # the result is rounded once
# dtype, rows, outputs, inputs, group size, width, groups, turns, cluster: outputs that end inside a block;
# rings that are filled again; groups of a part of a slab and of several
CASES = [
    (BF16, 17, 80, 512, 128, 64, 1, 2, 2),
    (BF16, 33, 272, 1408, 128, 128, 2, 1, 1),
    (BF16, 64, 144, 1024, 32, 64, 2, 1, 2),
    (FP16, 9, 128, 1024, 64, 128, 1, 1, 1),
    (BF16, 24, 64, 2048, 512, 64, 1, 2, 2),
]


@pytest.fixture
def hopper(gpu):
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    return gpu


def random_layer(gpu, outputs: int, inputs: int, group_size: int, dtype: torch.dtype) -> Int4:
    return make_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=torch.rand(inputs // group_size, outputs, device=gpu.device).half(),
        zeros_GO=torch.randint(0, 17, (inputs // group_size, outputs), dtype=torch.uint8, device=gpu.device),
        perm_I=torch.randperm(inputs, device=gpu.device),
        bias_O=torch.randn(outputs, dtype=dtype, device=gpu.device),
    )


def check(gpu, dtype, num_rows, outputs, inputs, group_size, cut: Int4Cut) -> None:
    layer = random_layer(gpu, outputs, inputs, group_size, dtype)
    x = torch.randn(num_rows, inputs, dtype=dtype, device=gpu.device)
    wanted = torch.nn.functional.linear(
        x[:, layer.perm_I].float(), dequantize(layer, torch.float32), layer.bias_O.float()
    )
    assert relative_error(linear_int4(gpu, x, layer, cut=cut), wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_codes_give_the_product_of_what_they_stand_for(hopper, case) -> None:
    dtype, num_rows, outputs, inputs, group_size, width, groups, k_groups, cluster = case
    for shared_bytes in range(60_000, 220_000, 10_000):  # the shortest ring
        cut = make_cut(
            num_rows=num_rows,
            width=width,
            groups=groups,
            k_groups=k_groups,
            cluster=cluster,
            inputs=inputs,
            group_size=group_size,
            shared_bytes=shared_bytes,
        )
        if cut is not None:
            break
    assert cut is not None
    check(hopper, dtype, num_rows, outputs, inputs, group_size, cut)
