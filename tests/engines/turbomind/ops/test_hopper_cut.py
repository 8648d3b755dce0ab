"""Cuts of the linear layer on warpgroup products: arithmetic on sizes."""

import pytest

from engines.errors import KernelError
from engines.turbomind.ops.hopper_cut import Kind, hopper_cut, make_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}
KINDS: tuple[Kind, ...] = ("dense", "e4m3", "int8", "nibble")
LAYERS = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (1152, 896)]  # outputs, inputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_cover_the_outputs_and_fit_into_shared_memory(kind: Kind, layer: tuple[int, int]) -> None:
    outputs, inputs = layer
    for num_rows in (1, 8, 17, 64, 128):
        cut = hopper_cut(kind, num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=128, **H200)
        assert cut.rows >= num_rows
        assert cut.num_blocks(outputs) * 64 * cut.groups // cut.cluster >= outputs
        assert cut.num_blocks(outputs) % cut.cluster == 0
        assert cut.shared_bytes <= H200["bytes_per_block"]
        assert cut.stages >= 3


def test_layers_of_few_outputs_are_shared_by_two_blocks() -> None:
    cuts = [
        hopper_cut("dense", num_rows=32, outputs=outputs, inputs=inputs, group_size=0, **H200)
        for outputs, inputs in LAYERS[:4]
    ]
    assert [(cut.groups, cut.cluster) for cut in cuts] == [(1, 1), (1, 2), (4, 1), (1, 2)]
    assert all(64 <= cut.num_blocks(outputs) <= 132 for cut, (outputs, _) in zip(cuts, LAYERS, strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_one_stage_holds_are_not_shared(kind: Kind) -> None:
    cut = hopper_cut(kind, num_rows=32, outputs=64, inputs=64, group_size=32, **H200)
    assert cut.cluster == 1


def test_codes_of_4_bits_keep_four_warpgroups_busy_where_registers_allow() -> None:
    for num_rows, most in ((1, 4), (32, 4), (64, 3), (128, 1)):
        for outputs, inputs in LAYERS[:4]:
            cut = hopper_cut(
                "nibble", num_rows=num_rows, outputs=outputs, inputs=inputs, group_size=128, **H200
            )
            assert cut.groups * cut.k_groups <= most
            assert num_rows > 32 or cut.groups * cut.k_groups == 4


def test_a_stage_belongs_to_one_of_the_warpgroups_that_take_turns() -> None:
    for k_groups in (1, 2, 3, 4):
        for shared_bytes in range(30_000, 230_000, 7_000):
            cut = make_cut(
                "nibble",
                rows=16,
                groups=1,
                k_groups=k_groups,
                cluster=1,
                inputs=4096,
                group_size=128,
                shared_bytes=shared_bytes,
            )
            assert cut is None or (cut.stages % k_groups == 0 and cut.shared_bytes <= shared_bytes)


def test_a_block_without_room_for_a_ring_is_refused() -> None:
    with pytest.raises(KernelError, match="9000 bytes of shared memory a block are too few"):
        hopper_cut(
            "dense", num_rows=64, outputs=64, inputs=4096, group_size=0, num_sms=1, bytes_per_block=9000
        )
