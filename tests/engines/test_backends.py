import sys
from types import ModuleType

import pytest
import torch
from tiny_engine import options

from engines.backends import open_backend
from engines.errors import DeviceError
from engines.parallel import TpGroup

has_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    backend = open_backend(options(), "bfloat16")
    assert (backend.device.type, backend.dtype) == ("cpu", torch.float32)
    assert open_backend(options(dtype="bfloat16"), "float16").dtype == torch.bfloat16


@has_cuda
@pytest.mark.parametrize("kind", ["pytorch", "turbomind"])
def test_a_missing_gpu_is_told_and_nothing_else_is_taken_instead(kind: str) -> None:
    with pytest.raises(DeviceError, match=r"engine\.device_type=cuda: torch .*; install|finds no CUDA GPU"):
        open_backend(options(kind=kind, device="cuda"), "float32")


def test_turbomind_on_a_cpu_says_that_it_needs_a_gpu() -> None:
    with pytest.raises(DeviceError, match="engine=turbomind"):
        open_backend(options(kind="turbomind"), "float32")


def test_a_missing_torch_npu_is_told() -> None:
    with pytest.raises(DeviceError, match="torch_npu does not import") as caught:
        open_backend(options(device="npu"), "float32")
    assert "engine.device_type=cpu" in str(caught.value)


def test_a_torch_npu_without_a_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_npu", ModuleType("torch_npu"))
    with pytest.raises(DeviceError, match="torch_npu finds no NPU"):
        open_backend(options(device="npu"), "float32")


@pytest.mark.parametrize("changes", [{"kind": "auto"}, {"device": "auto"}])
def test_auto_is_no_engine_and_no_device(changes: dict[str, str]) -> None:
    with pytest.raises(DeviceError, match="`auto` is resolved before"):
        open_backend(options(**changes), "float32")


def test_a_rank_knows_its_group() -> None:
    assert open_backend(options(tp=2), "float32", rank=1).group == TpGroup(rank=1, size=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_computes_in_the_dtype_of_the_checkpoint() -> None:
    backend = open_backend(options(device="cuda"), "float16")
    assert (backend.device.type, backend.dtype) == ("cuda", torch.float16)
