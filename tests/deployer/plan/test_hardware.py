from dataclasses import replace

import pytest
from plan_cases import CONF, hardware

from deployer.errors import ConfigError
from deployer.plan.hardware import check_hardware, flops_per_s, share_at, supports

NAMES = sorted(path.stem for path in (CONF / "hardware").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_device_is_whole_and_named_for_its_file(name: str) -> None:
    device = hardware(name)
    assert device.name == name
    check_hardware(device)


def test_the_devices_that_people_ask_for_are_there() -> None:
    assert {"h200", "h100", "a100", "l40s", "rtx4090", "t4", "v100", "cpu"} <= set(NAMES)


def test_a_format_without_units_computes_in_the_next_one() -> None:
    a100, t4 = hardware("a100"), hardware("t4")
    assert flops_per_s(a100, "fp8", otherwise="bfloat16") == 312e12
    assert flops_per_s(t4, "bfloat16", otherwise="bfloat16") == 8.1e12
    assert supports(t4, "float16")
    assert not supports(t4, "bfloat16")


def test_measured_shares_run_straight_over_the_logarithm_between_two_counts() -> None:
    curve, counts = [0.8, 0.6, 1.0], [1, 4, 64]
    assert share_at(curve, counts, 1) == 0.8
    assert share_at(curve, counts, 2) == pytest.approx(0.7)
    assert share_at(curve, counts, 16) == pytest.approx(0.8)
    assert share_at(curve, counts, 10_000) == 1.0


def test_a_device_that_cannot_be_is_refused_with_every_fault() -> None:
    good = hardware("h200").shares
    assert good is not None
    shares = replace(
        good,
        linear_tokens=[8, 1],
        linear=[1.2],
        linear_fp8=None,
        linear_int8=None,
        linear_int4=None,
        linear_bf12=None,
        linear_fp7=None,
        prefill_attention=2,
        layer_us=-1,
    )
    broken = replace(
        hardware("h200"), memory_bytes=0, memory_gbps=-1.0, capability=[9], num_sms=None, shares=shares
    )
    with pytest.raises(ConfigError) as caught:
        check_hardware(broken)
    assert caught.value.faults == (
        "hardware.memory_bytes=0: must be above 0",
        "hardware.memory_gbps=-1: must be above 0",
        "hardware.capability=[9]: must be two numbers, as [9,0]",
        "hardware.capability=[9] with hardware.num_sms=None: an NVIDIA GPU has both, anything else has null "
        "for both",
        "hardware.shares.linear=[1.2]: must be one share, above 0 and up to 1, for each of "
        "hardware.shares.linear_tokens",
        "hardware.shares.linear_tokens=[8, 1]: must rise",
        "hardware.shares.prefill_attention=2: must be above 0 and up to 1",
        "hardware.shares.layer_us=-1: must be 0 or more",
    )
