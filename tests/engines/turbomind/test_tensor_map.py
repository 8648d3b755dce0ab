"""What the driver is asked when a tensor is mapped."""

import ctypes

import pytest
import torch

from engines.errors import KernelError
from engines.turbomind import tensor_map
from engines.turbomind.tensor_map import TensorView, encode

VIEW = TensorView(
    address=0x7F00_0000_1000,
    dtype=torch.bfloat16,
    sizes=(72, 16, 1025, 3),
    strides_bytes=(144, 6912, 7084800),
    box=(64, 1, 80, 1),
)


class Driver:
    """Notes what cuTensorMapEncodeTiled is given and fills the map."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuTensorMapEncodeTiled(
        self, place, kind, rank, address, sizes, strides, box, steps, interleave, swizzle, promotion, fill
    ) -> int:
        self.seen = {
            "aligned": place.value % 64 == 0,
            "kind": kind,
            "rank": rank,
            "address": address.value,
            "lists": (list(sizes), list(strides), list(box), list(steps)),
            "modes": (interleave, swizzle, promotion, fill),
        }
        ctypes.memset(place.value, 7, 128)
        return self.status

    def cuGetErrorName(self, status: int, name: object) -> int:
        name._obj.value = b"CUDA_ERROR_INVALID_VALUE"
        return 0


def test_a_view_reaches_the_driver_with_the_swizzle_that_products_read(monkeypatch) -> None:
    driver = Driver()
    monkeypatch.setattr(tensor_map, "driver", lambda: driver)
    assert encode(VIEW) == b"\x07" * 128
    assert driver.seen == {
        "aligned": True,
        "kind": 9,
        "rank": 4,
        "address": VIEW.address,
        "lists": ([72, 16, 1025, 3], [144, 6912, 7084800], [64, 1, 80, 1], [1, 1, 1, 1]),
        "modes": (0, 3, 3, 0),
    }


def test_the_numbers_are_those_of_the_driver_s_header() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="the extra `cuda` is not installed")
    kinds = driver.CUtensorMapDataType
    assert kinds.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 == 9
    assert kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT16 == 6
    assert driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B == 3
    assert driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B == 3


def test_a_refused_view_is_named(monkeypatch) -> None:
    monkeypatch.setattr(tensor_map, "driver", lambda: Driver(status=1))
    monkeypatch.setattr(tensor_map, "status_name", lambda status: "CUDA_ERROR_INVALID_VALUE")
    with pytest.raises(KernelError, match=r"could not map a tensor.*72, 16.*CUDA_ERROR_INVALID_VALUE"):
        encode(VIEW)
