"""The cuts of linear layers that the engine prefers compile without a spilled register. Needs no GPU."""

from pathlib import Path

import pytest
from kept_builds import compiler_log

from engines.turbomind.kernel_source import read_kernel
from engines.turbomind.nvrtc import resource_usage
from engines.turbomind.ops.bf12_cut import bf12_cut
from engines.turbomind.ops.folded_norm import parts_of
from engines.turbomind.ops.fp7_cut import fp7_cut
from engines.turbomind.ops.hopper_cut import Kind, hopper_cut
from engines.turbomind.ops.int4_cut import int4_cut
from engines.turbomind.ops.linear_hopper import constants
from engines.turbomind.ops.two_rings_cut import TwoRingsCut

pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096)]  # outputs and inputs: some, few, many blocks an SM
H200 = {"num_sms": 132, "bytes_per_block": 232448}


def check(builds: Path, file: str, settings: dict[str, int | str]) -> None:
    log = compiler_log(builds, read_kernel(file), arch="sm_90a", constants=settings)
    (use,) = resource_usage(log).values()
    assert not use.spill_bytes and not use.stack_bytes, (settings, use)
    assert "Performance Loss" not in log, "products of a warpgroup wait for each other"


def norms(cut: TwoRingsCut) -> list[dict[str, int | str]]:
    """Return what a cut is compiled with: no norm, one behind it, one before it."""
    return [{}, {"NORMED": 128}, *([{"ADDED": 1}] if parts_of(cut, 4096) else [])]


@pytest.mark.parametrize(("kind", "num_rows"), [("int8", 256), ("dense", 64), ("dense", 128), ("e4m3", 128)])
def test_preferred_cuts_keep_their_sums_in_registers(kind: Kind, num_rows: int, builds: Path) -> None:
    cuts = {hopper_cut(kind, num_rows=num_rows, outputs=o, inputs=i, **H200) for o, i in LAYERS}
    outputs, inputs = LAYERS[-1]
    cuts.add(hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, gated=True, **H200))
    for cut in cuts:
        check(builds, "linear_hopper.cu", dict(constants(kind, cut, "bf16")))


@pytest.mark.parametrize("num_rows", [8, 16, 32, 64, 128])
def test_preferred_cuts_of_4_bit_codes_keep_their_sums_in_registers(num_rows: int, builds: Path) -> None:
    cuts = {int4_cut(num_rows=num_rows, outputs=o, inputs=i, group_size=128, **H200) for o, i in LAYERS}
    outputs, inputs = LAYERS[-1]
    cuts.add(int4_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=128, gated=True, **H200))
    for cut in cuts:
        assert cut is not None
        for norm in norms(cut):
            check(builds, "linear_int4_hopper.cu", dict(cut.constants("bf16", 128)) | norm)


@pytest.mark.parametrize("num_rows", [8, 16, 32, 64, 128])
def test_preferred_cuts_of_weights_in_12_bits_keep_their_sums_in_registers(
    num_rows: int, builds: Path
) -> None:
    cuts = {bf12_cut(num_rows=num_rows, outputs=o, inputs=i, **H200) for o, i in LAYERS}
    outputs, inputs = LAYERS[-1]
    cuts.add(bf12_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, gated=True, **H200))
    for cut in cuts:
        assert cut is not None
        for norm in norms(cut):
            check(builds, "linear_bf12.cu", dict(cut.constants()) | norm)


@pytest.mark.parametrize("num_rows", [8, 16, 32, 64, 128])
def test_preferred_cuts_of_weights_in_7_bits_keep_their_sums_in_registers(
    num_rows: int, builds: Path
) -> None:
    cuts = {fp7_cut(num_rows=num_rows, outputs=o, inputs=i, **H200) for o, i in LAYERS}
    outputs, inputs = LAYERS[-1]
    cuts.add(fp7_cut(num_rows=num_rows, outputs=outputs, inputs=inputs, gated=True, **H200))
    for cut in cuts:
        assert cut is not None
        check(builds, "linear_fp7.cu", dict(cut.constants()))
