"""Cuts of the linear layer on warpgroup products: arithmetic on sizes."""

import pytest

from engines.errors import KernelError
from engines.turbomind.ops.hopper_cut import Kind, hopper_cut, make_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}
KINDS: tuple[Kind, ...] = ("dense", "e4m3", "int8")
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (1152, 896)]  # outputs, inputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_cover_the_outputs_and_fit_into_shared_memory(kind: Kind, layer: tuple[int, int]) -> None:
    outputs, inputs = layer
    for num_rows in (1, 8, 17, 64, 128):
        cut = hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, **H200)
        assert cut.rows >= num_rows
        assert cut.num_blocks(outputs) * cut.group_outputs * cut.groups // cut.cluster >= outputs
        assert cut.num_blocks(outputs) % cut.cluster == 0
        assert cut.shared_bytes <= H200["bytes_per_block"]
        assert cut.stages >= 3


# qkv, o, gate_up and down of a decoder of 4,096; groups, turns, cluster / stages x outputs of a group: within
# 3 % of the fastest that was measured on an H200, kernels/LOG.md.
FASTEST: dict[tuple[Kind, int], str] = {
    ("dense", 32): "121/16x48 112/16 211/6x56 112/16",
    ("dense", 64): "121/16x48 112/14 211/5x56 112/14",
    ("dense", 128): "121/10x48 112/9 211/3x56 112/9",
    ("e4m3", 8): "121/16x48 112/12 411/7x56 122/16",
    ("e4m3", 32): "112/9 112/9 211/6x56 122/16",
    ("e4m3", 64): "112/6 112/6 211/5x56 122/14",
    ("e4m3", 128): "112/4 112/9 411/5x56 112/9",
    ("int8", 64): "112/6 112/6 211/5x56 122/14",
    ("int8", 128): "112/4 112/9 211/3x56 112/9",
}


@pytest.mark.parametrize(("kind", "num_rows"), list(FASTEST), ids=str)
def test_the_cuts_that_were_measured_to_be_the_fastest_are_preferred(kind: Kind, num_rows: int) -> None:
    cuts = [
        hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, **H200).label()
        for outputs, inputs in LAYERS[:4]
    ]
    assert cuts == FASTEST[kind, num_rows].split()


def test_pairs_of_blocks_take_256_rows_at_once_where_outputs_are_few() -> None:
    for outputs, inputs in ((4096, 4096), (4096, 14336)):
        cut = hopper_cut("e4m3", num_rows=256, outputs=outputs, inputs=inputs, **H200)
        assert (cut.label(), cut.rows, cut.sum_slabs) == ("112/5", 256, 0)


# outputs and inputs on a rank: Qwen2-7B's gate_up, Llama-3-70B's qkv, o, gate_up and down on 4 ranks, on 2
OTHERS = [(37888, 3584), (2560, 8192), (8192, 2048), (14336, 8192), (8192, 7168), (28672, 8192), (5120, 8192)]


@pytest.mark.parametrize("num_rows", [1, 32, 64, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_other_models_leave_few_sms_without_work(kind: Kind, num_rows: int) -> None:
    for outputs, inputs in OTHERS:
        cut = hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, **H200)
        at_once = 132 * (2 if cut.shared_bytes <= H200["bytes_per_block"] // 2 else 1)
        waves = cut.num_blocks(outputs) / at_once
        assert waves >= 0.29 and (waves <= 1 or waves / -(-waves // 1) > 0.5), (outputs, cut)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_one_stage_holds_are_not_shared(kind: Kind) -> None:
    cut = hopper_cut(kind, num_rows=32, outputs=64, inputs=64, **H200)
    assert cut.cluster == 1


def test_a_stage_belongs_to_one_of_the_warpgroups_that_take_turns() -> None:
    for k_groups in (1, 2, 3, 4):
        for shared_bytes in range(30_000, 230_000, 7_000):
            cut = make_cut(
                "int8",
                rows=16,
                groups=1,
                k_groups=k_groups,
                cluster=1,
                inputs=4096,
                shared_bytes=shared_bytes,
            )
            assert cut is None or (cut.stages % k_groups == 0 and cut.shared_bytes <= shared_bytes)


def test_a_block_without_room_for_a_ring_is_refused() -> None:
    with pytest.raises(KernelError, match="9000 bytes of shared memory a block are too few"):
        hopper_cut("dense", num_rows=64, outputs=64, inputs=4096, num_sms=1, bytes_per_block=9000)
