"""Linear layers of 8-bit codes give the twin's results, and go in parts where the library wants it."""

import pytest
import torch
from linear_layers import layers
from paged_attention import relative_error

from engines.ops import Int8
from engines.pytorch import linear as twin
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.linear import linear
from engines.turbomind.ops.linear_codes import add_rms_norm_linear, library_codes, silu_mul_linear

BF16 = torch.bfloat16


@pytest.mark.parametrize("num_rows", [3, 300])
@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_codes_of_gated_and_of_normed_rows_give_the_twins_result(gpu, kind: str, num_rows: int) -> None:
    weight, truth = layers(gpu, 48, 256, 64)[kind], TorchOps()
    x, residual, gate_up = (
        torch.randn(num_rows, width, dtype=BF16, device=gpu.device) for width in (256, 256, 512)
    )
    norm = torch.rand(256, dtype=BF16, device=gpu.device)
    gated = silu_mul_linear(gpu, gate_up, weight)
    assert gated is not None
    assert relative_error(gated, truth.silu_mul_linear(gate_up, weight).float()) < 2e-2
    normed = add_rms_norm_linear(gpu, x, residual, norm, 1e-5, weight)
    assert normed is not None
    wanted, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, weight)
    assert relative_error(normed[0], wanted.float()) < 2e-2  # a code may be its neighbour
    assert torch.equal(normed[1], total)


def test_products_of_the_library_go_in_parts_of_rows(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.turbomind.ops.linear_codes._LIBRARY_ROWS", 128)
    weight = layers(gpu, 48, 256, 64)["fp8"]
    x = torch.randn(300, 256, dtype=BF16, device=gpu.device)
    assert relative_error(linear(gpu, x, weight), twin.linear(x, weight).float()) < 5e-3


def test_what_has_no_codes_is_two_ops(gpu) -> None:
    weight = layers(gpu, 48, 256, 64)["dense"]
    x = torch.zeros(2, 256, dtype=BF16, device=gpu.device)
    assert silu_mul_linear(gpu, torch.zeros(2, 512, dtype=BF16, device=gpu.device), weight) is None
    assert add_rms_norm_linear(gpu, x, x, x[0], 1e-5, weight) is None


@pytest.mark.parametrize("num_rows", [3, 1024, 2051])  # under the library's least; one part; a last part of 3
def test_int8_sums_of_many_rows_are_scaled_part_by_part(num_rows: int) -> None:
    codes = torch.randint(-127, 128, (num_rows, 32), dtype=torch.int8)
    scale, bias = torch.rand(num_rows) / 100, torch.randn(24, dtype=BF16)
    weight = Int8(
        weight_OI=torch.randint(-127, 128, (24, 32), dtype=torch.int8), scale_O=torch.rand(24), bias_O=bias
    )
    sums = codes.double() @ weight.weight_OI.double().t()
    expected = (sums * scale[:, None] * weight.scale_O + bias).to(BF16)
    got = library_codes(codes, scale, weight, BF16)
    torch.testing.assert_close(got, expected, rtol=2**-7, atol=1e-6)
