"""Linear layers with gates: which way one is taken, and that every way gives the twin's result."""

import pytest
import torch
from linear_layers import copied, copied_codes, in_12_bits, layers
from paged_attention import relative_error

from engines.ops import Dense, Weight
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.linear_gated import add_rms_norm_gated

BF16 = torch.bfloat16


def gates_are_the_twins(
    gpu, weight: Weight, num_rows: int, *, taken: bool, twin: Weight | None = None
) -> None:
    """Hold a gate behind a norm to that of `twin` (None: of the weight itself); `taken`: it has a kernel."""
    truth = TorchOps()
    x, residual = (torch.randn(num_rows, 256, dtype=BF16, device=gpu.device) / 16 for _ in range(2))
    norm = torch.rand(256, dtype=BF16, device=gpu.device) / 16
    done = add_rms_norm_gated(gpu, x, residual, norm, 1e-5, weight)
    if not taken:
        assert done is None
        return
    assert done is not None
    gate_up, total = truth.add_rms_norm_linear(x, residual, norm, 1e-5, twin or weight)
    assert relative_error(done[0], truth.silu_mul(gate_up).float()) < 2e-2
    assert torch.equal(done[1], total)


@pytest.mark.parametrize("num_rows", [3, 135, 130, 20])
def test_a_gate_on_12_bits_alone_gives_the_twins_result(
    gpu, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_rows == 130:  # the way of many rows: unpacked, then gated
        monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130})
        monkeypatch.setattr("engines.turbomind.ops.linear_choice._MOST_BF12_ALONE_ROWS", (64,) * 4)
    # 416 outputs are too few for many multiprocessors, but where the weight is unpacked.
    taken = gpu.capability == (9, 0) and (num_rows == 130 or 64 * gpu.num_sms < 416)
    gates_are_the_twins(gpu, in_12_bits(gpu, 416, 256), num_rows, taken=taken)


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
    taken = gpu.capability == (9, 0) and (kind == "int4" or 2 * half > 64 * gpu.num_sms)
    gates_are_the_twins(gpu, layers(gpu, 2 * half, 256, 64)[kind], num_rows, taken=taken)


@pytest.mark.parametrize(("half", "num_rows"), [(208, 3), (208, 128), (96, 3)])
def test_a_gate_behind_a_norm_reads_the_copy_in_12_bits(gpu, half: int, num_rows: int) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer = copied(gpu, 2 * half, 256)
    doubled = Dense(weight_OI=2 * layer.weight_OI, bias_O=None)
    gates_are_the_twins(gpu, layer, num_rows, taken=2 * half > 64 * gpu.num_sms, twin=doubled)


@pytest.mark.parametrize(("half", "num_rows"), [(208, 3), (208, 128), (96, 3)])
def test_a_gate_behind_a_norm_reads_the_copy_in_7_bits(gpu, half: int, num_rows: int) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    layer, doubled = copied_codes(gpu, 2 * half, 256)
    gates_are_the_twins(gpu, layer, num_rows, taken=2 * half > 64 * gpu.num_sms, twin=doubled)


# Some rows of 4-bit codes have a kernel of their own; of more the codes are unpacked first.
@pytest.mark.parametrize("kind", ["dense", "int8", "int4"])
def test_gates_of_many_rows_behind_a_norm_give_the_twins_result(
    gpu, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.turbomind.ops.linear_gated._INT4_ROWS", range(9, 130))
    monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130, "int8": 130})
    gates_are_the_twins(gpu, layers(gpu, 80, 256, 64)[kind], 140, taken=gpu.capability == (9, 0))


def test_a_weight_that_was_just_unpacked_is_not_read_early(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the kernel's instructions are those of sm_90a")
    monkeypatch.setattr("engines.turbomind.ops.linear_choice._GATED_TILES", {"dense": 130})
    monkeypatch.setattr("engines.turbomind.ops.linear_gated._INT4_ROWS", range(9, 130))
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
