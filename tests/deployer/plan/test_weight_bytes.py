"""Against weights counted by hand from the published sizes."""

from dataclasses import replace

import pytest
from plan_cases import case

from deployer.plan.weight_bytes import bytes_of, weight_parts
from engines.errors import CheckpointError

# (heads + 2 KV heads) * head_dim * hidden, heads * head_dim * hidden, 2 ffn * hidden, hidden * ffn
LAYER_WEIGHTS = {
    "1b": 24 * (1152 * 896 + 896 * 896 + 9728 * 896 + 896 * 4864),
    "2b": 24 * (4096 * 2048 + 2048 * 2048 + 16384 * 2048 + 2048 * 8192),
    "8b": 32 * (6144 * 4096 + 4096 * 4096 + 28672 * 4096 + 4096 * 14336),
    "26b": 48 * (8192 * 6144 + 6144 * 6144 + 32768 * 6144 + 6144 * 16384),
    "76b": 80 * (10240 * 8192 + 8192 * 8192 + 57344 * 8192 + 8192 * 28672),
}
LAYERS = ("qkv", "o", "gate_up", "down")


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("size", ["2b", "8b", "26b", "76b"])
def test_linear_layers_are_shared_evenly(size: str, tp: int) -> None:
    assert bytes_of(weight_parts(case(size, tp=tp)), *LAYERS) == LAYER_WEIGHTS[size] * 2 // tp


def test_biases_count_with_their_layer() -> None:
    parts = weight_parts(case("1b"))
    assert bytes_of(parts, *LAYERS) == (LAYER_WEIGHTS["1b"] + 24 * 1152) * 2


def test_heads_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(CheckpointError, match="tp=4: must divide the 14 units of `q`"):
        weight_parts(case("1b", tp=4))


@pytest.mark.parametrize(
    ("tp", "head_rows", "embedding_rows"), [(1, 92_608, 92_608), (2, 46_336, 92_672), (4, 23_168, 92_672)]
)
def test_the_vocabulary_is_padded_to_64_rows_a_rank(tp: int, head_rows: int, embedding_rows: int) -> None:
    parts = weight_parts(case(tp=tp))
    assert bytes_of(parts, "head") == head_rows * 4096 * 2
    assert bytes_of(parts, "embedding") == embedding_rows * 4096 * 2


def test_the_small_tower_is_counted_to_the_weight() -> None:
    layer = 3 * 1024**2 + 3072 + 1024**2 + 1024 + 2 * 4 * 1024**2 + 4096 + 1024 + 4 * 1024 + 2 * 1024
    rest = 1024 * 588 + 1024 + 1024 + 1025 * 1024
    for tp in (1, 4):  # every rank holds all of it
        assert bytes_of(weight_parts(case(tp=tp)), "tower") == (24 * layer + rest) * 2


def test_the_large_tower_has_norms_of_q_and_k_and_no_qkv_bias() -> None:
    layer = 3 * 3200**2 + 2 * 3200 + 3200**2 + 3200 + 2 * 3200 * 12800 + 12800 + 3200 + 4 * 3200
    rest = 3200 * 588 + 3200 + 3200 + 1025 * 3200
    assert bytes_of(weight_parts(case("26b")), "tower") == (45 * layer + rest) * 2


def test_the_projector_is_counted_to_the_weight() -> None:
    assert bytes_of(weight_parts(case()), "projector") == (2 * 4096 + 2 * (4096**2 + 4096)) * 2


def test_the_whole_of_internvl2_8b_is_8_08_billion_weights() -> None:
    num = sum(part.num_weights for part in weight_parts(case()))
    assert num == pytest.approx(8.08e9, rel=1e-3)


def test_four_bit_weights_carry_a_scale_and_a_zero_point_for_128() -> None:
    parts = weight_parts(case(weights="awq"))
    assert bytes_of(parts, *LAYERS) == LAYER_WEIGHTS["8b"] * (128 * 4 + 16 + 8) // 128 // 8
    assert bytes_of(parts, "head", "tower") == bytes_of(weight_parts(case()), "head", "tower")


def test_eight_bit_weights_halve_the_layers_and_leave_biases() -> None:
    small = weight_parts(case("1b", weights="fp8"))
    biases, scales = 24 * 1152 * 2, 24 * (1152 + 896 + 9728 + 896) * 4
    assert bytes_of(small, *LAYERS) == LAYER_WEIGHTS["1b"] + biases + scales


def test_float32_doubles_everything() -> None:
    what = case()
    wide = replace(what, options=replace(what.options, dtype="float32"))
    assert [part.num_bytes for part in weight_parts(wide)] == [
        2 * part.num_bytes for part in weight_parts(what)
    ]
