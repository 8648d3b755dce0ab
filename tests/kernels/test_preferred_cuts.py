"""The cuts of linear layers that the engine prefers compile without a spilled register. Needs no GPU."""

import pytest

from engines.turbomind.kernel_source import read_kernel
from engines.turbomind.nvrtc import compile_cubin, resource_usage
from engines.turbomind.ops.hopper_cut import Kind, hopper_cut
from engines.turbomind.ops.linear_hopper import constants

pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096)]  # outputs and inputs: some, few, many blocks an SM
H200 = {"num_sms": 132, "bytes_per_block": 232448}


@pytest.mark.parametrize(
    ("kind", "num_rows"),
    [
        ("nibble", 8),
        ("nibble", 64),
        ("nibble", 128),
        ("int8", 256),
        ("dense", 64),
        ("dense", 128),
        ("e4m3", 128),
    ],
)
def test_preferred_cuts_keep_their_sums_in_registers(kind: Kind, num_rows: int) -> None:
    group_size = 128 if kind == "nibble" else 0
    cuts = {
        hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=group_size, **H200)
        for outputs, inputs in LAYERS
    }
    if kind != "nibble":
        outputs, inputs = LAYERS[-1]
        cuts.add(
            hopper_cut(
                kind, num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=0, gated=True, **H200
            )
        )
    for cut in cuts:
        settings = dict(constants(kind, cut, "bf16", group_size))
        log = compile_cubin(read_kernel("linear_hopper.cu"), arch="sm_90a", constants=settings).log
        (use,) = resource_usage(log).values()
        assert not use.spill_bytes and not use.stack_bytes, (cut, use)
        assert "Performance Loss" not in log, "products of a warpgroup wait for each other"
