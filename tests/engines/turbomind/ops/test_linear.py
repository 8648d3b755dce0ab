"""The linear op of the table: which way a product is taken, and that every way gives the twin's result."""

import pytest
import torch
from linear_layers import copied, copied_codes, in_12_bits, layers
from paged_attention import relative_error

from engines.ops import Dense, Int4
from engines.pytorch import linear as twin
from engines.quant.int4_tiles import linear_int4
from engines.turbomind.ops import linear_skinny_bf12
from engines.turbomind.ops.linear import linear

BF16 = torch.bfloat16


# The first is taken by our kernels where there are any; of the second no kernel takes 4-bit codes.
@pytest.mark.parametrize(("outputs", "inputs", "group_size"), [(48, 256, 64), (40, 96, 32)])
@pytest.mark.parametrize("num_rows", [0, 1, 40, 300])
@pytest.mark.parametrize("kind", ["dense", "int4", "fp8", "int8"])
def test_every_kind_of_weight_gives_the_twins_result(
    gpu, kind: str, num_rows: int, outputs: int, inputs: int, group_size: int
) -> None:
    weight = layers(gpu, outputs, inputs, group_size)[kind]
    x = torch.randn(2, num_rows, inputs, dtype=BF16, device=gpu.device)[:, : max(1, num_rows) // 2]
    got, wanted = linear(gpu, x, weight), twin.linear(x, weight)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    assert not got.numel() or relative_error(got, wanted.float()) < 5e-3  # both are rounded


# few rows; a block of them; several blocks, the last one small; unpacked
@pytest.mark.parametrize("num_rows", [0, 3, 40, 135, 260])
def test_12_bits_alone_give_the_twins_result(gpu, num_rows: int) -> None:
    weight = in_12_bits(gpu, 48, 256)
    x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
    got, wanted = linear(gpu, x, weight), twin.linear(x, weight)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    assert not num_rows or relative_error(got, wanted.float()) < 5e-3


def test_few_rows_read_the_copy_in_12_bits_and_others_the_weight(gpu) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer = copied(gpu, 48, 256)
    for num_rows, factor in ((1, 2), (16, 2), (129, 1)):
        x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
        wanted = factor * twin.linear(x, layer).float()
        assert relative_error(linear(gpu, x, layer), wanted) < 5e-3
    x = torch.randn(1, 256, dtype=torch.float16, device=gpu.device)
    half = Dense(weight_OI=layer.weight_OI.half(), bias_O=None, bf12=layer.bf12)
    assert relative_error(linear(gpu, x, half), twin.linear(x, half).float()) < 5e-3


@pytest.mark.parametrize(("capability", "read"), [((8, 0), 2), ((8, 9), 2), ((7, 5), 1)])
def test_gpus_before_hopper_read_the_copy_in_12_bits_for_few_rows(gpu, monkeypatch, capability, read) -> None:
    monkeypatch.setattr(gpu, "capability", capability)
    layer = copied(gpu, 48, 256)
    for num_rows, factor in ((1, read), (linear_skinny_bf12.MOST_ROWS, read), (17, 1)):
        x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
        wanted = factor * twin.linear(x, layer).float()
        assert relative_error(linear(gpu, x, layer), wanted) < 5e-3


def test_few_rows_read_the_copy_in_7_bits_and_others_the_codes(gpu) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer, doubled = copied_codes(gpu, 48, 256)
    for num_rows, wanted in ((1, doubled), (16, doubled), (129, layer)):
        x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
        assert relative_error(linear(gpu, x, layer), twin.linear(x, wanted).float()) < 5e-3
    x = torch.randn(1, 256, dtype=torch.float16, device=gpu.device)
    assert relative_error(linear(gpu, x, layer), twin.linear(x, layer).float()) < 5e-3


def test_int4_without_a_permutation_takes_inputs_in_their_order(gpu) -> None:
    weight = layers(gpu, 48, 256, 64)["int4"]
    assert isinstance(weight, Int4)
    plain = linear_int4(
        torch.randint(0, 16, (48, 256), dtype=torch.uint8, device=gpu.device),
        scales_GO=weight.scales_GO,
        zeros_GO=weight.zeros_GO,
    )
    x = torch.randn(3, 256, dtype=BF16, device=gpu.device)
    assert relative_error(linear(gpu, x, plain), twin.linear(x, plain).float()) < 5e-3
