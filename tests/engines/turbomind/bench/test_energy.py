"""What is made of the readings of an energy counter that moves in steps."""

import itertools
import math
from functools import partial

import pytest
import torch

from engines.errors import DeviceError
from engines.turbomind.bench.energy import EnergyMeter, Spent, power, spent
from engines.turbomind.bench.timing import random


def test_the_energy_of_a_call_is_its_power_and_time() -> None:
    assert Spent(us=6000.0, watts=700.0, mhz=1450.0).millijoules == pytest.approx(4200.0)


def test_power_is_that_between_steps_of_the_counter() -> None:
    assert power([(1.0, 100.0), (1.1, 160.0), (1.3, 310.0)]) == pytest.approx(700.0)


def test_fewer_than_two_steps_are_no_power() -> None:
    assert math.isnan(power([]))
    assert math.isnan(power([(1.0, 100.0)]))


def test_readings_between_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter is read ten times a step: the clock of the first reading after each step counts."""
    now = itertools.count()
    reads = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(now) / 100)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    meter = object.__new__(EnergyMeter)
    monkeypatch.setattr(EnergyMeter, "joules", lambda self: 50.0 * (next(reads) // 10))
    monkeypatch.setattr(EnergyMeter, "sm_mhz", lambda self: 1500)
    left = iter(range(95))
    watts, mhz = meter.watts_while(lambda: next(left, None) is not None)
    assert (watts, mhz) == (pytest.approx(500.0), 1500)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing on machines without a GPU")
def test_a_machine_without_nvml_is_told_so() -> None:
    with pytest.raises(DeviceError, match="energy is read through NVML, which is missing here: libnvidia-ml"):
        EnergyMeter()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and its energy counter")
def test_a_gpu_draws_power_while_it_works() -> None:
    """A product of 8,192 rows draws more than the idle card and less than any card may."""
    a, b = random(8192, 8192), random(8192, 8192)
    cost = spent(EnergyMeter(), [partial(torch.matmul, a, b)], seconds=0.5)
    assert 200 < cost.watts < 1500
    assert cost.millijoules == pytest.approx(cost.watts * cost.us / 1000)
