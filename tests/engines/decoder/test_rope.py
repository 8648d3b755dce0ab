import math

import pytest
import torch

from engines.decoder.rope import Rope, StoredRope
from engines.spec import RopeSpec

HEAD_DIM = 16
CPU = torch.device("cpu")


def tables(spec: RopeSpec, positions: list[int], rope_lens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return Rope(spec, HEAD_DIM, CPU).tables(torch.tensor(positions), torch.tensor(rope_lens))


def plain(position: float, theta: float, j: int) -> float:
    return position * theta ** (-2 * j / HEAD_DIM)


def test_default_angles_are_position_times_inverse_frequency() -> None:
    cos, sin = tables(RopeSpec(theta=1e4), [0, 3, 700], [1, 4, 701])
    assert cos.dtype == sin.dtype == torch.float32
    assert cos.shape == sin.shape == (3, HEAD_DIM // 2)
    for row, position in enumerate([0, 3, 700]):
        for j in range(HEAD_DIM // 2):
            assert cos[row, j] == pytest.approx(math.cos(plain(position, 1e4, j)), abs=1e-4)
            assert sin[row, j] == pytest.approx(math.sin(plain(position, 1e4, j)), abs=1e-4)


def test_linear_stretches_positions() -> None:
    stretched = tables(RopeSpec(theta=1e4, kind="linear", factor=4.0), [40], [41])
    torch.testing.assert_close(stretched, tables(RopeSpec(theta=1e4), [10], [11]))


def test_dynamic_changes_nothing_up_to_the_limit() -> None:
    dynamic = RopeSpec(theta=1e4, kind="dynamic", factor=2.0, max_positions=100)
    positions = [0, 50, 99]
    torch.testing.assert_close(
        tables(dynamic, positions, [1, 51, 100]), tables(RopeSpec(theta=1e4), positions, positions)
    )


def test_dynamic_grows_theta_with_each_tokens_own_length() -> None:
    dynamic = RopeSpec(theta=1e4, kind="dynamic", factor=2.0, max_positions=100)
    lengths = [100, 101, 250]
    cos, _ = tables(dynamic, [60, 60, 60], lengths)
    for row, length in enumerate(lengths):
        theta = 1e4 * (2 * length / 100 - 1) ** (HEAD_DIM / (HEAD_DIM - 2))
        torch.testing.assert_close(cos[row], tables(RopeSpec(theta=theta), [60], [61])[0][0])


def test_dynamic_steps_grow_theta_with_each_doubling_of_the_prompt() -> None:
    stepped = RopeSpec(theta=1e4, kind="dynamic_steps", max_positions=100)
    lengths, alphas = [7, 100, 101, 200, 201, 400, 401], [1, 1, 3, 3, 7, 7, 15]
    cos, _ = tables(stepped, [60] * len(lengths), lengths)
    for row, alpha in enumerate(alphas):
        theta = 1e4 * alpha ** (HEAD_DIM / (HEAD_DIM - 2))
        torch.testing.assert_close(cos[row], tables(RopeSpec(theta=theta), [60], [61])[0][0])
    assert [stepped.regime(length) for length in lengths] == [0, 0, 1, 1, 2, 2, 3]


def test_llama3_divides_long_waves_keeps_short_ones_and_blends_between() -> None:
    spec = RopeSpec(
        theta=5e5,
        kind="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_positions=64,
    )
    _, sin = tables(spec, [1], [2])
    kinds = set()
    for j in range(HEAD_DIM // 2):
        inv = plain(1, 5e5, j)
        wave = 2 * math.pi / inv
        if wave < 64 / 4:
            kind, wanted = "kept", inv
        elif wave > 64 / 1:
            kind, wanted = "divided", inv / 8
        else:
            smooth = (64 / wave - 1) / (4 - 1)
            kind, wanted = "blended", (1 - smooth) * inv / 8 + smooth * inv
        kinds.add(kind)
        assert sin[0, j] == pytest.approx(math.sin(wanted), rel=1e-5)
    assert kinds == {"kept", "divided", "blended"}


def test_longrope_takes_the_long_list_past_the_original_length_and_scales_both() -> None:
    short, long = tuple(1.0 + j / 10 for j in range(8)), tuple(2.0 + j for j in range(8))
    spec = RopeSpec(
        theta=1e4,
        kind="longrope",
        original_max_positions=32,
        short_factors=short,
        long_factors=long,
        attention_factor=1.25,
    )
    cos, sin = tables(spec, [5, 5], [32, 33])
    for row, factors in enumerate((short, long)):
        for j, factor in enumerate(factors):
            angle = plain(5, 1e4, j) / factor
            assert cos[row, j] == pytest.approx(1.25 * math.cos(angle), abs=1e-5)
            assert sin[row, j] == pytest.approx(1.25 * math.sin(angle), abs=1e-5)


def test_rescaled_replaces_any_kind_by_dynamic_with_that_factor() -> None:
    spec = RopeSpec(theta=1e6, kind="linear", factor=4.0).rescaled(3.0, max_positions=2048)
    assert spec == RopeSpec(theta=1e6, kind="dynamic", factor=3.0, max_positions=2048)


@pytest.mark.parametrize(
    ("spec", "short", "long"),
    [
        (RopeSpec(theta=1e4), 5, 5000),
        (RopeSpec(theta=1e4, kind="dynamic", factor=2.0, max_positions=5000), 5, 5000),
        (RopeSpec(theta=1e4, kind="longrope", original_max_positions=5000), 5, 5000),
    ],
)
def test_prompts_within_the_limit_share_one_regime(spec: RopeSpec, short: int, long: int) -> None:
    assert spec.regime(short) == spec.regime(long) == 0


def test_beyond_the_limit_dynamic_prompts_share_with_their_length_only_and_longrope_with_all() -> None:
    dynamic = RopeSpec(theta=1e4, kind="dynamic", factor=2.0, max_positions=10)
    longrope = RopeSpec(theta=1e4, kind="longrope", original_max_positions=10)
    assert dynamic.regime(11) != dynamic.regime(12) != 0
    assert longrope.regime(11) == longrope.regime(12) != 0


def test_a_part_of_a_head_turns_by_frequencies_of_its_own_width() -> None:
    cos, _ = tables(RopeSpec(theta=1e4, rotary_dim=4), [3], [4])
    assert cos.tolist() == [[pytest.approx(math.cos(3.0)), pytest.approx(math.cos(0.03))]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_frequencies_round_angles_to_their_own_format(dtype: torch.dtype) -> None:
    inverse = torch.tensor([1.0, 0.3], dtype=dtype)
    cos, sin = StoredRope(inverse).tables(torch.tensor([0, 261]), torch.tensor([1, 262]))
    angles = torch.tensor([[0, 0], [261, 261]], dtype=dtype) * inverse
    assert cos.dtype == sin.dtype == torch.float32
    assert torch.equal(cos, angles.cos().float()) and torch.equal(sin, angles.sin().float())


def test_tables_of_several_axes_are_rows_as_kernels_read_them() -> None:
    rope = Rope(RopeSpec(theta=1e4, sections=(2, 3, 3)), 16, torch.device("cpu"))
    positions = torch.tensor([[0, 1, 2], [0, 3, 4], [0, 5, 6]])
    for table in rope.tables(positions, torch.tensor([3, 3, 3])):
        assert table.shape == (3, 8) and table.is_contiguous()
