"""What reaches the driver at a launch, read back from the memory it is given."""

import ctypes
from types import SimpleNamespace

import pytest

from engines.errors import KernelError
from engines.turbomind import launch
from engines.turbomind.launch import Kernel, _Attribute, _Config

TYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "q": ctypes.c_longlong, "f": ctypes.c_float}


class Driver:
    """Notes launches as cuLaunchKernelEx would see them."""

    def __init__(self, arguments: str, status: int = 0) -> None:
        self.arguments, self.status = arguments, status
        self.seen: list[SimpleNamespace] = []

    def cuLaunchKernelEx(self, config: int, function: int, slots: ctypes.Array, extra: None) -> int:
        at = _Config.from_address(config)
        self.seen.append(
            SimpleNamespace(
                function=function,
                grid=(at.grid_x, at.grid_y, at.grid_z),
                block=(at.block_x, at.block_y, at.block_z),
                shared_bytes=at.shared_bytes,
                stream=at.stream,
                overlaps=at.num_attributes == 1 and _Attribute.from_address(at.attributes).value == 1,
                arguments=[
                    _map_at(slot) if kind == "M" else TYPES[kind].from_address(slot).value
                    for kind, slot in zip(self.arguments, slots, strict=True)
                ],
            )
        )
        return self.status

    def cuGetErrorName(self, status: int, name: object) -> int:
        name._obj.value = b"CUDA_ERROR_LAUNCH_FAILED"
        return 0


def _map_at(slot: int) -> SimpleNamespace:
    return SimpleNamespace(address=slot, value=ctypes.string_at(slot, 128))


def kernel(monkeypatch: pytest.MonkeyPatch, driver: Driver, *, overlap: bool = False) -> Kernel:
    monkeypatch.setattr(launch, "driver", lambda: driver)
    return Kernel("norm", 77, arguments=driver.arguments, threads=256, shared_bytes=512, overlap=overlap)


def test_arguments_of_every_type_arrive_at_their_own_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("PifqiP")
    run = kernel(monkeypatch, driver)
    run(9, (3, 2), 0x7F00_0000_1000, -5, 0.25, 1 << 40, 7, 0)
    run(11, (1, 1), 16, 0, -1.5, -1, 2, 32)
    first, second = driver.seen
    assert first.arguments == [
        0x7F00_0000_1000,
        -5,
        0.25,
        1 << 40,
        7,
        None,
    ]  # ctypes reads a null pointer as None
    assert second.arguments == [16, 0, -1.5, -1, 2, 32]
    assert (first.grid, first.block, first.shared_bytes, first.stream) == ((3, 2, 1), (256, 1, 1), 512, 9)
    assert (second.grid, second.stream, second.function) == ((1, 1, 1), 11, 77)


def test_a_tensor_map_arrives_whole_at_a_multiple_of_64_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("iMfM")
    first, second = bytes(range(128)), bytes(range(128, 256))
    kernel(monkeypatch, driver)(0, (1, 1), 3, first, 0.5, second)
    number, a, fraction, b = driver.seen[0].arguments
    assert (number, fraction, bytes(a.value), bytes(b.value)) == (3, 0.5, first, second)
    assert a.address % 64 == b.address % 64 == 0


@pytest.mark.parametrize("overlap", [False, True])
def test_a_launch_overlaps_its_predecessor_only_where_asked(
    monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    driver = Driver("P")
    kernel(monkeypatch, driver, overlap=overlap)(0, (1, 1), 8)
    assert driver.seen[0].overlaps is overlap


def test_a_refused_launch_names_kernel_grid_and_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    run = kernel(monkeypatch, Driver("P", status=719))
    with pytest.raises(KernelError, match=r"`norm` was not started, grid \(4, 1\): CUDA_ERROR_LAUNCH_FAILED"):
        run(0, (4, 1), 8)


def test_the_structures_have_the_drivers_layout() -> None:
    """cuda.h of CUDA 13.0: CUlaunchConfig is 56 bytes, CUlaunchAttribute 72."""
    assert (ctypes.sizeof(_Config), _Config.stream.offset, _Config.attributes.offset) == (56, 32, 40)
    assert (ctypes.sizeof(_Attribute), _Attribute.value.offset) == (72, 8)
