"""The instructions that only Hopper has, one by one: emulator and hardware must agree on every layout."""

from pathlib import Path

import pytest
import torch
from paged_attention import relative_error

from engines.turbomind.tensor_map import TensorView

PROBE = str(Path(__file__).parents[2] / "support" / "hopper_probe.cu")


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def probed(gpu, request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    if gpu.capability != (9, 0):
        pytest.skip("the GPU is no Hopper")
    a, b = (torch.randn(64, 128, dtype=request.param, device=gpu.device) for _ in range(2))
    scores, sums = (torch.full((64, n), torch.nan, device=gpu.device) for n in (64, 128))
    swizzled = torch.zeros(2, 64, 64, dtype=request.param, device=gpu.device)
    scalar = {torch.bfloat16: "bf16", torch.float16: "fp16"}[request.param]
    kernel = gpu.kernel(
        PROBE, "hopper_probe", (("SCALAR", scalar),), "MMPPP", threads=128, shared_bytes=34 * 1024
    )
    maps = [
        gpu.tensor_map(
            TensorView(
                address=x.data_ptr(), dtype=x.dtype, sizes=(128, 64), strides_bytes=(256,), box=(64, 64)
            )
        )
        for x in (a, b)
    ]
    kernel(gpu.stream(), (1, 1), *maps, scores.data_ptr(), sums.data_ptr(), swizzled.data_ptr())
    return {"a": a, "b": b, "scores": scores, "sums": sums, "swizzled": swizzled}


def test_a_box_lands_in_column_blocks_with_the_128_byte_swizzle(probed) -> None:
    pieces = probed["b"].view(64, 2, 8, 8).transpose(0, 1)  # block, row, piece of 16 bytes, element
    row = torch.arange(64, device=pieces.device)[:, None]
    piece = torch.arange(8, device=pieces.device)[None, :]
    assert torch.equal(probed["swizzled"].view(2, 64, 8, 8), pieces[:, row, piece ^ row % 8])


def test_rows_of_two_operands_are_multiplied(probed) -> None:
    wanted = probed["a"].float() @ probed["b"].float().T
    assert relative_error(probed["scores"], wanted) < 1e-5  # exact products, sums in fp32


def test_registers_are_multiplied_by_columns(probed) -> None:
    wanted = probed["scores"].to(probed["b"].dtype).float() @ probed["b"].float()
    assert relative_error(probed["sums"], wanted) < 1e-5
