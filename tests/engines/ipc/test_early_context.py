import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from engines.ipc.early_context import open_context_early


def bindings(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """Put a driver of our own in the place of NVIDIA's."""
    driver = SimpleNamespace(CUresult=SimpleNamespace(CUDA_SUCCESS=0), **functions)
    module = ModuleType("cuda.bindings")
    module.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", module)


def open_and_wait(device: str, *, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[object] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    thread = open_context_early(device, rank=rank)
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive() and faults == []


def test_a_rank_opens_the_context_of_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []
    bindings(
        monkeypatch,
        cuInit=lambda flags: calls.append(("init", flags)),
        cuDeviceGet=lambda ordinal: (0, f"gpu {ordinal}"),
        cuDevicePrimaryCtxRetain=lambda device: calls.append(("retain", device)),
    )
    open_and_wait("cuda", rank=2, monkeypatch=monkeypatch)
    assert calls == [("init", 0), ("retain", "gpu 2")]


def test_a_gpu_that_is_not_there_is_left_to_who_opens_it_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings(
        monkeypatch,
        cuInit=lambda flags: None,
        cuDeviceGet=lambda ordinal: (101, None),
        cuDevicePrimaryCtxRetain=lambda device: pytest.fail("there is no such device"),
    )
    open_and_wait("cuda", rank=7, monkeypatch=monkeypatch)


def test_no_driver_is_left_to_who_opens_the_device_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(flags: int) -> None:
        raise RuntimeError("libcuda.so not found")

    bindings(monkeypatch, cuInit=no_driver)
    open_and_wait("cuda", rank=0, monkeypatch=monkeypatch)


def test_no_bindings_are_left_to_who_opens_the_device_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    open_and_wait("cuda", rank=0, monkeypatch=monkeypatch)


@pytest.mark.parametrize("device", ["cpu", "npu"])
def test_other_devices_have_no_context_to_open(device: str) -> None:
    assert open_context_early(device, rank=0) is None
