from dataclasses import replace
from typing import Any

import pytest
from plan_cases import case

from deployer.cli import main
from deployer.plan.case import Case
from deployer.plan.start_faults import start_faults
from engines.options import KvFormat


def kept_in(what: Case, form: KvFormat, **engine: Any) -> Case:
    """Return the case with another format of keys and values, and other engine options."""
    options = replace(what.options, kv=replace(what.options.kv, format=form), **engine)
    return replace(what, options=options)


def test_what_starts_has_no_fault() -> None:
    for what in (case(), case(device="t4"), kept_in(case(), "bf12"), kept_in(case(), "int4")):
        assert start_faults(what) == []


def test_weights_in_12_bits_are_computed_in_bfloat16_of_a_checkpoint_in_it() -> None:
    assert start_faults(case(weights="bf12")) == []
    float16 = replace(case(weights="bf12").options, dtype="float16")
    (fault,) = start_faults(replace(case(weights="bf12"), options=float16))
    assert fault == (
        "quantization.weights=bf12 (computed in float16 on h200): 12 bits are those of bfloat16 numbers, "
        "whose range float16 has not; use engine.dtype=bfloat16 or quantization=auto"
    )
    older = kept_in(case(weights="bf12", device="v100"), "none", kind="pytorch", dtype="float16")
    (fault,) = start_faults(older)
    assert fault.endswith("use quantization=awq (4 bits) or quantization=auto")
    made_in = case(weights="bf12")
    other = replace(made_in, spec=replace(made_in.spec, dtype="float16"), options=float16)
    (fault,) = start_faults(other)
    assert fault.endswith(
        "the checkpoint is in float16, and 12 bits are made of bfloat16 alone; use quantization=auto"
    )


def test_keys_in_12_bits_computed_in_float16_are_a_fault_with_a_way_out_that_the_device_has() -> None:
    (fault,) = start_faults(kept_in(case(), "bf12", dtype="float16"))
    assert fault == (
        "quantization.kv=bf12 (computed in float16 on h200): keeps numbers of bfloat16, float16 has three "
        "more bits of mantissa; use none, fp8, int8 or int4, or engine.dtype=bfloat16"
    )
    (fault,) = start_faults(kept_in(case(device="t4"), "bf12", dtype="float16"))
    assert fault.endswith("use none, fp8, int8 or int4")


def test_heads_that_a_planned_format_does_not_suit_are_a_fault_of_the_key_that_asked() -> None:
    decoder = replace(case().spec.decoder, head_dim=80)
    what = kept_in(replace(case(), spec=replace(case().spec, decoder=decoder)), "int4", kind="pytorch")
    assert start_faults(what, kv_key="plan.kv") == [
        "plan.kv=int4: needs heads of a multiple of 32 numbers, this model's have 80; use none, fp8 or int8"
    ]


def test_heads_of_96_in_4_bits_are_a_fault_of_our_kernels_alone() -> None:
    decoder = replace(case().spec.decoder, head_dim=96)  # Phi-3-vision's
    what = replace(case(), spec=replace(case().spec, decoder=decoder))
    assert start_faults(kept_in(what, "int4")) == [
        "quantization.kv=int4: needs heads of a multiple of 64 numbers with engine=turbomind, this model's "
        "have 96; use none, bf12, fp8 or int8"
    ]
    assert start_faults(kept_in(what, "int4", kind="pytorch")) == []
    assert start_faults(kept_in(what, "int8")) == []


def test_a_gpu_that_the_compiler_no_longer_knows_is_a_fault_of_our_kernels_alone() -> None:
    (fault,) = start_faults(case(device="v100"))
    assert fault.startswith("engine=turbomind (on v100, compute capability 7.0): CUDA 13")
    assert start_faults(kept_in(case(device="v100"), "none", kind="pytorch")) == []


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("engine.device_type=cpu",), "engine.device_type=cpu (command line `engine.device_type=cpu`): h200"),
        (("engine=pytorch", "engine.device_type=cuda", "hardware=cpu"), "name the GPU with hardware=<name>"),
        (("engine=pytorch", "engine.device_type=npu"), "none of conf/hardware is, so it has no plan"),
    ],
)
def test_a_device_that_is_not_the_planned_one_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], fault: str
) -> None:
    assert main(["plan", "+model=pocket_vl", *words]) == 3
    assert fault in capsys.readouterr().err
    assert main(["plan", "+model=pocket_vl", "engine.device_type=cpu", "hardware=cpu"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("+model=llava_v1_5_7b", "quantization.kv=bf12"),  # a checkpoint in float16
        ("+model=internvl2_8b", "quantization.kv=bf12", "hardware=t4"),
        ("+model=internvl2_8b", "plan.kv=bf12", "engine.dtype=float16"),
        ("+model=internvl2_2b", "engine=turbomind", "hardware=v100"),
    ],
)
def test_a_deployment_that_cannot_start_is_refused_and_never_said_to_fit(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["plan", *words]) == 3
    captured = capsys.readouterr()
    assert "fits" not in captured.out
    assert "; use " in captured.err


def test_no_change_is_offered_with_which_an_engine_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "+model=llava_v1_5_7b"]) == 0
    out = capsys.readouterr().out
    assert "quantization.kv=int4" in out and "bf12" not in out
