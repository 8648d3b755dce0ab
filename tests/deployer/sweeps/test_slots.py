"""Which GPU belongs to which point."""

import pytest
from sweep_results import options

from deployer.errors import UnavailableError
from deployer.sweeps.slots import Slots, gpus_to_use


def test_points_share_no_gpu_and_wait_for_as_many_as_they_need() -> None:
    slots = Slots([0, 1, 2])
    assert slots.take(2) == [0, 1]
    assert slots.take(2) is None and slots.any_free
    assert slots.take(1) == [2]
    assert not slots.any_free
    slots.give_back([0, 1])
    assert slots.take(2) == [0, 1]


def test_a_point_on_the_cpu_has_the_machine_for_itself() -> None:
    slots = Slots([0])
    assert slots.any_free and slots.take(0) == []
    assert not slots.any_free
    assert slots.take(0) is None and slots.take(1) is None
    slots.give_back([])
    assert slots.take(1) == [0]
    assert slots.take(0) is None


def test_the_gpus_are_those_that_cuda_shows() -> None:
    assert gpus_to_use(options(), 2, {}) == [0, 1]
    assert gpus_to_use(options(), 2, {"CUDA_VISIBLE_DEVICES": "4,6"}) == [4, 6]
    assert gpus_to_use(options(devices=[6]), 2, {"CUDA_VISIBLE_DEVICES": "4,6"}) == [6]
    assert gpus_to_use(options(), 0, {}) == []
    with pytest.raises(UnavailableError, match=r"no GPU \[1\]; 1 here: \[0\]"):
        gpus_to_use(options(devices=[0, 1]), 1, {})
    with pytest.raises(UnavailableError, match="none is here"):
        gpus_to_use(options(devices=[0]), 0, {})
    with pytest.raises(UnavailableError, match="hands GPUs out by number"):
        gpus_to_use(options(), 1, {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"})
