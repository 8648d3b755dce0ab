"""GPUs that kernels are tested on: the CPU that plays one, and a real one where there is one."""

import shutil
from pathlib import Path

import pytest
import torch
from emulated_gpu import EmulatedGpu

from engines.turbomind.gpu import Gpu

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run kernels on the CPU")


@pytest.fixture(autouse=True)
def _numbers_are_those_of_every_run() -> None:
    """A tolerance that one draw in a thousand misses would end the gate once a week."""
    torch.manual_seed(0)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("emulated", marks=needs_compiler),
        pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu]),
    ],
)
def gpu(request: pytest.FixtureRequest, builds: Path) -> EmulatedGpu | Gpu:
    """Every test of small shapes runs on both; three multiprocessors make uneven splits."""
    return _cuda(builds) if request.param == "cuda" else EmulatedGpu(builds, num_sms=3)


@pytest.fixture(scope="session")
def cuda_gpu(builds: Path) -> Gpu:
    """For tests that carry `@pytest.mark.gpu`: sizes of shipped models, graphs."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return _cuda(builds)


def _cuda(folder: Path) -> Gpu:
    return Gpu(torch.device("cuda"), cache_dir=folder / "cubins")
