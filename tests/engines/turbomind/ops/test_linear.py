"""The linear op of the table: which way a product is taken, and that every way gives the twin's result."""

from dataclasses import replace

import pytest
import torch
from linear_layers import layers
from paged_attention import relative_error

from engines.ops import Dense, Dense12, Fp8, Int4
from engines.pytorch import linear as twin
from engines.pytorch.ops_torch import TorchOps
from engines.quant.bf12_layer import layer_in_12_bits
from engines.quant.bf12_tiles import bf12_of
from engines.quant.fp7_tiles import fp7_of
from engines.quant.int4_tiles import linear_int4
from engines.turbomind.ops import linear_skinny_bf12
from engines.turbomind.ops.linear import (
    add_rms_norm_gated,
    linear,
)

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


def in_12_bits(gpu, outputs: int, inputs: int) -> Dense12:
    layer = layer_in_12_bits(torch.randn(outputs, inputs, dtype=BF16, device=gpu.device), "layer")
    return replace(layer, bias_O=torch.randn(outputs, dtype=BF16, device=gpu.device))


# few rows; a block of them; several blocks, the last one small; unpacked
@pytest.mark.parametrize("num_rows", [0, 3, 40, 135, 260])
def test_12_bits_alone_give_the_twins_result(gpu, num_rows: int) -> None:
    weight = in_12_bits(gpu, 48, 256)
    x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
    got, wanted = linear(gpu, x, weight), twin.linear(x, weight)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    assert not num_rows or relative_error(got, wanted.float()) < 5e-3


@pytest.mark.parametrize("num_rows", [3, 135, 130, 20])
def test_a_gate_on_12_bits_alone_gives_the_twins_result(
    gpu, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_rows == 130:  # the way of many rows: unpacked, then gated
        monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130})
        monkeypatch.setattr("engines.turbomind.ops.linear_choice._MOST_BF12_ALONE_ROWS", (64,) * 4)
    weight, truth = in_12_bits(gpu, 416, 256), TorchOps()
    x, residual = (torch.randn(num_rows, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, weight)
    # 416 outputs are too few for many multiprocessors, but where the weight is unpacked.
    if gpu.capability != (9, 0) or (num_rows != 130 and 64 * gpu.num_sms >= 416):
        assert done is None
        return
    assert done is not None
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, weight)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


# The last has too few outputs to be gated where they are multiplied.
@pytest.mark.parametrize(
    ("kind", "half", "num_rows"),
    [
        ("dense", 200, 40),
        ("fp8", 200, 40),
        ("int8", 200, 40),
        ("int4", 208, 40),
        ("int4", 208, 5),
        ("dense", 200, 150),
        ("fp8", 200, 150),
        ("fp8", 40, 40),
    ],
)
def test_a_gate_behind_a_norm_gives_the_twins_result(gpu, kind: str, half: int, num_rows: int) -> None:
    weight, truth = layers(gpu, 2 * half, 256, 64)[kind], TorchOps()
    x, residual = (torch.randn(num_rows, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, weight)
    if gpu.capability != (9, 0) or (kind != "int4" and 2 * half <= 64 * gpu.num_sms):
        assert done is None
        return
    assert done is not None
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, weight)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


def copied(gpu, outputs: int, inputs: int) -> Dense:
    """Return a layer whose copy in 12 bits is of twice the weight: the result tells which was read."""
    weight = torch.randn(outputs, inputs, device=gpu.device).to(BF16)
    return Dense(weight_OI=weight, bias_O=None, bf12=bf12_of(2 * weight))


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


@pytest.mark.parametrize(("half", "num_rows"), [(208, 3), (208, 128), (96, 3)])
def test_a_gate_behind_a_norm_reads_the_copy_in_12_bits(gpu, half: int, num_rows: int) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer, truth = copied(gpu, 2 * half, 256), TorchOps()
    x, residual = (torch.randn(num_rows, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, layer)
    if 2 * half <= 64 * gpu.num_sms:
        assert done is None
        return
    assert done is not None
    doubled = Dense(weight_OI=2 * layer.weight_OI, bias_O=None)
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, doubled)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


def copied_codes(gpu, outputs: int, inputs: int) -> tuple[Fp8, Fp8]:
    """Return a layer whose copy in 7 bits is of twice the weight, and one of twice the weight without."""
    codes = (torch.randn(outputs, inputs, device=gpu.device) * 50).clamp(-448, 448).to(torch.float8_e4m3fn)
    scale = (torch.rand(outputs, device=gpu.device) + 0.5) / 800
    copy = fp7_of(codes, 2 * scale)
    assert copy is not None
    layer = Fp8(weight_OI=codes, scale_O=scale, bias_O=None, fp7=copy)
    return layer, Fp8(weight_OI=codes, scale_O=2 * scale, bias_O=None)


def test_few_rows_read_the_copy_in_7_bits_and_others_the_codes(gpu) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer, doubled = copied_codes(gpu, 48, 256)
    for num_rows, wanted in ((1, doubled), (16, doubled), (129, layer)):
        x = torch.randn(num_rows, 256, dtype=BF16, device=gpu.device)
        assert relative_error(linear(gpu, x, layer), twin.linear(x, wanted).float()) < 5e-3
    x = torch.randn(1, 256, dtype=torch.float16, device=gpu.device)
    assert relative_error(linear(gpu, x, layer), twin.linear(x, layer).float()) < 5e-3


@pytest.mark.parametrize(("half", "num_rows"), [(208, 3), (208, 128), (96, 3)])
def test_a_gate_behind_a_norm_reads_the_copy_in_7_bits(gpu, half: int, num_rows: int) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    (layer, doubled), truth = copied_codes(gpu, 2 * half, 256), TorchOps()
    x, residual = (torch.randn(num_rows, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, layer)
    if 2 * half <= 64 * gpu.num_sms:
        assert done is None
        return
    assert done is not None
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, doubled)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


# Some rows of 4-bit codes have a kernel of their own; of more the codes are unpacked first.
@pytest.mark.parametrize("kind", ["dense", "int8", "int4"])
def test_gates_of_many_rows_behind_a_norm_give_the_twins_result(
    gpu, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.turbomind.ops.linear._GATED_INT4_ROWS", range(9, 130))
    monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130, "int8": 130})
    weight, truth = layers(gpu, 80, 256, 64)[kind], TorchOps()
    x, residual = (torch.randn(140, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, weight)
    if gpu.capability != (9, 0):
        assert done is None
        return
    assert done is not None
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, weight)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


def test_a_weight_that_was_just_unpacked_is_not_read_early(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130})
    monkeypatch.setattr("engines.turbomind.ops.linear._GATED_INT4_ROWS", range(9, 130))
    orders, kernel = {}, gpu.kernel

    def recorded(file: str, *args: object, **options: object) -> object:
        orders[file] = options.get("in_order", False)
        return kernel(file, *args, **options)

    monkeypatch.setattr(gpu, "kernel", recorded)
    layer, x = layers(gpu, 32, 128, 64)["int4"], torch.zeros(130, 128, dtype=BF16, device=gpu.device)
    assert add_rms_norm_gated(gpu, x, x, x[0], 1e-5, layer) is not None
    assert orders == {"norm.cu": False, "dequantize_int4.cu": False, "linear_tiles.cu": True}


@pytest.mark.gpu
def test_an_unpacked_weight_is_whole_when_it_is_multiplied(cuda_gpu) -> None:
    layer, device = layers(cuda_gpu, 28672, 4096, 128)["int4"], cuda_gpu.device
    x, norm = torch.randn(2048, 4096, dtype=BF16, device=device), torch.ones(4096, dtype=BF16, device=device)
    results = []
    for _ in range(4):
        place = torch.full((28672, 4096), torch.nan, dtype=BF16, device=device)
        del place  # the allocator gives it to the unpacked weight
        done = add_rms_norm_gated(cuda_gpu, x, x, norm, 1e-5, layer)
        assert done is not None
        results.append(done[0])
    assert all(bool(result.isfinite().all()) and torch.equal(result, results[0]) for result in results)


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
