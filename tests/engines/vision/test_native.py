"""Pictures of native resolution: sizes, patches, windows, and real pictures held to upstream's."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from family_golden import FIXTURES
from PIL import Image

from engines.errors import RequestError
from engines.vision.assembly.native import cell_patches
from engines.vision.passes import Normaliser
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.towers.qwen2_vit import windows_of
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec

REFERENCE = json.loads((FIXTURES / "qwen2_vl" / "preprocess.json").read_text())
SPEC = NativeSpec(
    cell=28,
    step_frames=2,
    min_pixels=3136,
    max_pixels=12_845_056,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
TOWER = Qwen2VitSpec(
    patch=14,
    frames=2,
    merge=2,
    hidden=1280,
    num_layers=32,
    num_heads=16,
    ffn=5120,
    norm="layer_norm",
    norm_eps=1e-6,
    hidden_act="quick_gelu",
)


@pytest.mark.parametrize("case", REFERENCE["images"], ids=lambda case: f"{case['file']}-{case['settings']}")
def test_patches_of_real_pictures_are_the_references(case: dict[str, Any]) -> None:
    spec = SPEC.changed(REFERENCE["settings"][case["settings"]])
    picture = Image.open(FIXTURES / "pictures" / case["file"]).convert("RGB")
    plan = spec.plan(*picture.size)
    assert [1, 2 * plan.grid[1], 2 * plan.grid[0]] == case["grid"]
    (array,) = spec.arrays(picture, plan)
    assert (array.shape,) == spec.shapes(plan)
    normalise = Normaliser(spec.mean, spec.std, device=torch.device("cpu"), dtype=torch.float32)
    patches = cell_patches(normalise(torch.tensor(array)), TOWER)
    assert list(patches.shape) == case["shape"]
    flat = patches.flatten().numpy()
    assert np.abs(flat[case["sample_index"]] - case["sample_value"]).max() < 1e-5
    rounded = np.round(flat.astype(np.float64) * 100).astype("<i2")
    assert hashlib.sha256(rounded.tobytes()).hexdigest() == case["sha256_round2"]


def test_sizes_round_to_cells_and_stay_within_the_limits() -> None:
    assert SPEC.plan(448, 448).grid == (16, 16)
    assert SPEC.plan(70, 42).grid == (2, 2)  # 2.5 and 1.5 cells: halves go to the even neighbour
    assert SPEC.plan(1, 1).grid == (2, 2)  # min_pixels
    wide = SPEC.plan(20_000, 4_000).grid
    assert wide[0] * wide[1] * 28**2 <= SPEC.max_pixels and 4.9 < wide[0] / wide[1] < 5.1
    assert SPEC.largest().grid == (128, 128)
    low = SPEC.low_detail().plan(2000, 1000).grid
    assert low[0] * low[1] <= 256


@pytest.mark.parametrize("max_pixels", [4 * 784, 50_000, 200 * 784, 237 * 784 + 5, 1_000_000, 12_845_056])
def test_no_picture_has_more_cells_than_the_largest(max_pixels: int) -> None:
    spec = SPEC.changed({"min_pixels": 784, "max_pixels": max_pixels})
    columns, rows = spec.largest().grid
    sizes = [(28 * width, 28 * height) for width in range(1, 200, 7) for height in range(1, 200, 5)]
    sizes += [(far * side, side) for far in (2, 20, 199, 200) for side in (3, 50, 999, 10_000)]
    found = [spec.plan(width, height).grid for width, height in sizes]
    assert max(width * height for width, height in found) <= columns * rows
    assert columns * rows <= max_pixels // 784 or rows == 1


def test_a_picture_far_too_long_is_refused() -> None:
    assert SPEC.plan(2000, 10).grid[1] >= 1
    with pytest.raises(RequestError, match="at most 200 times the shorter"):
        SPEC.plan(2001, 10)


def test_limits_the_wrong_way_round_are_faults() -> None:
    assert SPEC.faults() == []
    assert "vision.min_pixels=5000" in SPEC.changed({"min_pixels": 5000, "max_pixels": 4000}).faults()[0]
    assert "must hold one cell" in SPEC.changed({"max_pixels": 100}).faults()[0]
    assert list(SPEC.cheaper()) == [{"vision.max_pixels": 3_211_264}]


def test_windows_are_cut_from_the_top_left_and_ragged_at_the_other_edges() -> None:
    windows = windows_of((3, 5), 2, 1, torch.device("cpu"))
    assert windows.groups == ((2, 4), (2, 2), (1, 2), (1, 1))
    assert windows.order_L.tolist() == [0, 1, 3, 4, 6, 7, 9, 10, 2, 5, 8, 11, 12, 13, 14]
    assert windows.order_L[windows.back_L].tolist() == list(range(15))


def test_a_window_as_large_as_the_picture_keeps_the_order() -> None:
    windows = windows_of((3, 2), 8, 2, torch.device("cpu"))
    assert windows.groups == ((1, 24),) and windows.order_L.tolist() == list(range(24))


def test_windows_make_attention_cheaper_and_nothing_else() -> None:
    plan = SPEC.plan(1120, 1120)
    windowed = Qwen2VitSpec(
        **{name: getattr(TOWER, name) for name in TOWER.__slots__} | {"window": 4, "full_layers": (7,)}
    )
    (products, pairs), (same, fewer) = TOWER.tile_flops(plan), windowed.tile_flops(plan)
    assert products == same and fewer < pairs / 15
