"""The linear layer of 4-bit codes for few rows: against what the codes stand for in fp32."""

import pytest
import torch
from paged_attention import relative_error

from engines.errors import KernelError
from engines.ops import Int4
from engines.quant.int4_tiles import dequantize, linear_int4
from engines.turbomind.ops.linear_skinny_int4 import (
    ROWS,
    SkinnyInt4Shape,
    fits,
    linear_skinny_int4,
    make_shape,
    skinny_int4_shape,
)

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 2.5e-3, FP16: 4e-4}  # the result is rounded once
# dtype, rows, outputs, inputs, group size, tiles, cluster, warps, x in the ring: one slab, fewer than warps;
# several passes, the last not full; a ring that is filled again; groups of a part of a slab and of several
SMALL = [
    (BF16, 1, 16, 128, 128, 1, 1, 8, False),
    (BF16, 1, 208, 1152, 128, 2, 1, 2, False),
    (BF16, 3, 144, 2560, 64, 2, 1, 4, False),
    (FP16, 8, 112, 1024, 32, 1, 2, 2, False),
    (BF16, 5, 320, 1280, 256, 3, 1, 4, False),
    (BF16, 8, 208, 896, 128, 2, 2, 2, False),
    (BF16, 8, 144, 2560, 64, 3, 1, 4, True),
    (BF16, 5, 80, 1280, 128, 4, 2, 2, True),
    (FP16, 2, 32, 256, 128, 2, 1, 4, True),
]
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (1152, 896), (896, 4864)]


def random_layer(gpu, outputs: int, inputs: int, group_size: int, dtype: torch.dtype) -> Int4:
    return linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=gpu.device),
        scales_GO=torch.rand(inputs // group_size, outputs, device=gpu.device).half(),
        zeros_GO=torch.randint(0, 17, (inputs // group_size, outputs), dtype=torch.uint8, device=gpu.device),
        perm_I=torch.randperm(inputs, device=gpu.device),
        bias_O=torch.randn(outputs, dtype=dtype, device=gpu.device),
    )


def check(gpu, dtype, num_rows, outputs, inputs, group_size, shape: SkinnyInt4Shape | None = None) -> None:
    layer = random_layer(gpu, outputs, inputs, group_size, dtype)
    x = torch.randn(num_rows, inputs, dtype=dtype, device=gpu.device)
    wanted = torch.nn.functional.linear(
        x[:, layer.perm_I].float(), dequantize(layer, torch.float32), layer.bias_O.float()
    )
    assert relative_error(linear_skinny_int4(gpu, x, layer, shape=shape), wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_few_rows_equal_the_product_in_fp32(gpu, case) -> None:
    dtype, num_rows, outputs, inputs, group_size, tiles, cluster, warps, x_in_ring = case
    if cluster > 1 and gpu.capability != (9, 0):
        pytest.skip("clusters are those of sm_90a")
    shape = make_shape(
        num_rows=num_rows,
        outputs=outputs,
        inputs=inputs,
        group_size=group_size,
        num_sms=3 * cluster,
        shared_bytes=gpu.shared_bytes_per_block,
        tiles=tiles,
        cluster=cluster,
        warps=warps,
        x_in_ring=x_in_ring,
    )
    assert shape is not None
    check(gpu, dtype, num_rows, outputs, inputs, group_size, shape)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 5, 8])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_few_rows_equal_the_product_in_fp32_at_model_sizes(cuda_gpu, layer, num_rows: int) -> None:
    check(cuda_gpu, BF16, num_rows, *layer, 128)


def test_a_large_mean_of_the_inputs_costs_no_accuracy(gpu) -> None:
    layer = random_layer(gpu, 64, 512, 128, BF16)
    x = 30 + torch.randn(2, 512, dtype=BF16, device=gpu.device)
    wanted = torch.nn.functional.linear(
        x[:, layer.perm_I].float(), dequantize(layer, torch.float32), layer.bias_O.float()
    )
    assert relative_error(linear_skinny_int4(gpu, x, layer), wanted) < TOLERANCE[BF16]


def test_every_output_belongs_to_a_block_and_shared_memory_suffices() -> None:
    for outputs, inputs in LAYERS:
        for num_rows in (1, 2, 8):
            for num_sms, bytes_per_block in ((132, 232448), (108, 166912), (128, 101376)):
                shape = skinny_int4_shape(
                    num_rows=num_rows,
                    outputs=outputs,
                    inputs=inputs,
                    group_size=128,
                    num_sms=num_sms,
                    bytes_per_block=bytes_per_block,
                    clusters=num_sms == 132,
                )
                if shape is None:  # what it holds of x leaves no half for a ring
                    assert next(rows for rows in ROWS if rows >= num_rows) * inputs > bytes_per_block // 4
                    continue
                assert shape.tiles * shape.passes >= shape.block_tiles
                assert shape.block_tiles * num_sms * 16 >= outputs * shape.cluster
                assert shape.shared_bytes <= bytes_per_block


def test_several_rows_come_with_the_codes_where_a_block_has_few_outputs() -> None:
    # of qkv, o, gate_up and down of a decoder of 4,096: as measured, kernels/LOG.md
    for num_rows, wanted in ((1, [False] * 4), (8, [False, True, False, True])):
        shapes = [
            skinny_int4_shape(
                num_rows=num_rows,
                outputs=outputs,
                inputs=inputs,
                group_size=128,
                num_sms=132,
                bytes_per_block=232448,
                clusters=True,
            )
            for outputs, inputs in LAYERS[:4]
        ]
        assert [shape is not None and shape.x_in_ring for shape in shapes] == wanted


def test_what_the_kernel_cannot_take_is_refused(gpu) -> None:
    layer = random_layer(gpu, 32, 256, 64, BF16)
    assert fits(gpu, 8, BF16, layer)
    assert not fits(gpu, 9, BF16, layer)
    assert not fits(gpu, 0, BF16, layer)
    assert not fits(gpu, 1, torch.float32, layer)
    assert not fits(gpu, 1, BF16, random_layer(gpu, 40, 256, 64, BF16))
    assert not fits(gpu, 1, BF16, random_layer(gpu, 32, 192, 64, BF16))
    assert not fits(gpu, 1, BF16, random_layer(gpu, 32, 256, 16, BF16))
    with pytest.raises(KernelError, match=r"`linear_skinny_int4` of 9 rows, .* at most 8 rows"):
        linear_skinny_int4(gpu, torch.zeros(9, 256, dtype=BF16, device=gpu.device), layer)
