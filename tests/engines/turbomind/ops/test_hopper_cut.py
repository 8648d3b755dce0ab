"""Cuts of the linear layer on warpgroup products: arithmetic on sizes."""

import pytest

from engines.errors import KernelError
from engines.turbomind.ops.hopper_cut import Kind, cost, hopper_cut, make_cut

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


def test_no_other_cut_moves_less_through_the_busiest_multiprocessor() -> None:
    sizes = {"outputs": 6144, "inputs": 4096, "num_sms": 132}
    best = hopper_cut(
        "dense", num_rows=64, group_size=0, bytes_per_block=232448, outputs=6144, inputs=4096, num_sms=132
    )
    for groups in (1, 2, 3, 4):
        for cluster in (1, 2, 4, 8):
            other = make_cut(
                "dense",
                rows=64,
                groups=groups,
                cluster=cluster,
                inputs=4096,
                group_size=0,
                shared_bytes=232448,
            )
            assert other is None or cost("dense", other, **sizes) >= cost("dense", best, **sizes)


def test_layers_of_few_outputs_keep_most_multiprocessors_busy() -> None:
    for outputs, inputs in LAYERS[:4]:
        cut = hopper_cut("dense", num_rows=32, outputs=outputs, inputs=inputs, group_size=0, **H200)
        assert cut.num_blocks(outputs) >= 96


def test_a_block_without_room_for_a_ring_is_refused() -> None:
    with pytest.raises(KernelError, match="9000 bytes of shared memory a block are too few"):
        hopper_cut(
            "dense", num_rows=64, outputs=64, inputs=4096, group_size=0, num_sms=1, bytes_per_block=9000
        )
