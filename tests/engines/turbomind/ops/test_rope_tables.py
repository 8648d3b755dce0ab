"""Rotary tables of one launch against those of torch."""

from typing import Any

import pytest
import torch

from engines.decoder.rope import Rope
from engines.spec import RopeSpec
from engines.turbomind.ops.rope_tables import rope_tables

HEAD_DIM = 32
WAVES: dict[str, Any] = {"original_max_positions": 64, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG: dict[str, Any] = {"short_factors": (1.1,) * 16, "long_factors": tuple(2.0 + i for i in range(16))}
SPECS = [
    RopeSpec(theta=1e6),
    RopeSpec(theta=1e4, kind="linear", factor=4.0),
    RopeSpec(theta=5e5, kind="llama3", factor=8.0, **WAVES),
    RopeSpec(theta=1e4, kind="longrope", original_max_positions=1000, attention_factor=1.19, **LONG),
    RopeSpec(theta=1e6, kind="dynamic", factor=2.0, max_positions=1000),
    RopeSpec(theta=1e4, kind="dynamic_steps", max_positions=1000),
    RopeSpec(theta=1e4, rotary_dim=16),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_tables_equal_those_of_torch_on_both_sides_of_a_length_that_changes_them(gpu, spec: RopeSpec) -> None:
    rope = Rope(spec, HEAD_DIM, gpu.device)
    positions = torch.tensor([0, 1, 3, 998, 999, 1000, 1500, 1999, 2000, 2001, 4000, 4001, 9000] * 3)
    lens = torch.cat([positions[:13] + 1, torch.full((13,), 1000), torch.full((13,), 8001)])
    positions, lens = positions.to(gpu.device), lens.to(gpu.device)
    found, wanted = rope_tables(gpu, rope, positions, lens), rope.tables(positions, lens)
    # Powers of two libraries differ by 2 units in the last place, and so do angles of up to 9,000.
    grows = spec.kind.startswith("dynamic")
    for got, exact in zip(found, wanted, strict=True):
        assert got.is_contiguous()
        torch.testing.assert_close(got, exact, rtol=0, atol=2e-3 if grows else 3e-7)


def test_angles_of_many_turns_are_as_exact_as_small_ones(gpu) -> None:
    rope = Rope(RopeSpec(theta=1e4), HEAD_DIM, gpu.device)
    positions = torch.randint(0, 2**20, (500,), generator=torch.Generator().manual_seed(0)).to(gpu.device)
    cos, sin = rope_tables(gpu, rope, positions, positions + 1)
    angles = (positions.float().unsqueeze(1) * rope.inverse_R).double()
    torch.testing.assert_close(cos, angles.cos().float(), rtol=0, atol=2e-7)
    torch.testing.assert_close(sin, angles.sin().float(), rtol=0, atol=2e-7)


def test_no_tokens_have_empty_tables(gpu) -> None:
    none = torch.empty(0, dtype=torch.int64, device=gpu.device)
    cos, sin = rope_tables(gpu, Rope(RopeSpec(theta=1e4), HEAD_DIM, gpu.device), none, none)
    assert cos.shape == sin.shape == (0, HEAD_DIM // 2)
