"""Which points are ruled out before they run, and for which reason."""

from dataclasses import replace

import pytest
from machines import CPU_BUILD, NO_GPU

from deployer.config.devices import Gpu
from deployer.sweeps.feasible import Here, judge

GIB = 2**30
A100 = Gpu(name="NVIDIA A100-SXM4-80GB", memory_bytes=79 * GIB, capability=(8, 0))
LAPTOP = Here(
    machine=replace(CPU_BUILD, torch="2.13.0"),
    memory_bytes=16 * GIB,
    num_devices=0,
)
BOX = Here(
    machine=replace(NO_GPU, gpus=(A100, A100)),
    memory_bytes=500 * GIB,
    num_devices=2,
)
SMALL = ["+model=pocket_vl", "engine=pytorch"]
LARGE = ["+model=internvl2_8b", "engine=turbomind", "engine.load_format=random", "bench=decode"]


def test_a_point_that_fits_is_priced_for_what_is_here() -> None:
    small = judge(SMALL, (), LAPTOP)
    assert (small.refusal, small.hardware, small.num_devices) == (None, "cpu", 0)
    large = judge([*LARGE, "engine.tp=2", "engine.max_batch_size=256"], (), BOX)
    assert (large.refusal, large.hardware, large.num_devices) == (None, "a100", 2)


@pytest.mark.parametrize(
    ("words", "here", "reason"),
    [
        (
            [*SMALL, "engine.cache_max_entry_count=64000000000"],
            LAPTOP,
            "does not fit on 1 x cpu: engine",
        ),
        ([*SMALL, "engine.session_len=64"], LAPTOP, "does not fit on 1 x cpu: the priced request has"),
        ([*SMALL, "quantization=gone"], LAPTOP, "unknown quantization `gone`"),
        ([*SMALL, "quantization=awq"], LAPTOP, "quantization.weights=awq: model `pocket_vl`"),
        ([*SMALL, "engine.tpp=2"], LAPTOP, "nearest keys: `engine.tp`"),
        ([*SMALL, "bench.warmup=-1"], LAPTOP, "bench.warmup=-1: must be at least 0"),
        ([*SMALL, "bench=decode"], LAPTOP, "engine.max_batch_size=128 lets no more run at once"),
        (["+model=pocket_vl", "engine=turbomind"], LAPTOP, "torch 2.13.0 is a CPU build"),
        ([*LARGE, "engine.tp=2"], BOX.with_devices(1), "engine.tp=2: sweep.devices gives 1"),
        (["+model=internvl2_76b", "engine=turbomind"], BOX, "does not fit on 1 x a100"),
        (
            [*SMALL, "hardware=t4", "engine.cache_max_entry_count=32000000000"],
            LAPTOP,
            "does not fit on 1 x t4",
        ),
        (["+model=llama2_7b", "engine=turbomind", "bench.images=both"], BOX, "reads text only"),
    ],
)
def test_a_point_that_cannot_run_says_why(words: list[str], here: Here, reason: str) -> None:
    found = judge(words, (), here).refusal
    assert found is not None and reason in found


def test_a_gpu_that_no_file_describes_rules_nothing_out_by_memory() -> None:
    unknown = Here(
        machine=replace(NO_GPU, gpus=(replace(A100, name="B900", memory_bytes=GIB),)),
        memory_bytes=GIB,
        num_devices=2,
    )
    found = judge(["+model=internvl2_76b", "engine=turbomind"], (), unknown)
    assert (found.refusal, found.hardware) == (None, None)
