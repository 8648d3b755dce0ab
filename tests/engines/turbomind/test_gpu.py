"""The device behind the launchers."""

from pathlib import Path

import pytest
import torch

from engines.errors import DeviceError
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.norm import rms_norm


def test_what_is_no_gpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="engine=turbomind on `cpu`: it needs an NVIDIA GPU"):
        Gpu(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    x = torch.randn(3, 512, dtype=torch.bfloat16, device="cuda")
    weight = torch.ones(512, dtype=torch.bfloat16, device="cuda")
    results = []
    for expected in (1, 0):
        gpu = Gpu(torch.device("cuda"), cache_dir=tmp_path)
        results.append(rms_norm(gpu, x, weight, 1e-5))
        assert gpu.cubins.compiled == expected
    assert torch.equal(*results)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_scratch_memory_is_kept_and_grows() -> None:
    gpu = Gpu(torch.device("cuda"))
    small = gpu.scratch("partials", 100)
    assert gpu.scratch("partials", 50) is small
    assert gpu.scratch("partials", 1000).numel() == 1000
    assert gpu.scratch("other", 10).sum() == 0
