"""What a request may ask of a picture, for each kind of preprocessing."""

from dataclasses import replace

import pytest

from deployer.prompt.fineness import AS_DEPLOYED, BOUNDS, Fineness, faults, grown_too_far, looked_at
from engines.vision.kinds import PIXELS
from engines.vision.parts import PixelSpec
from engines.vision.pixels.anyres_spec import AnyresSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.pixels.hd_image_spec import HdImageSpec
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.pixels.slices_spec import SlicesSpec

GREY = (0.5, 0.5, 0.5)
INTERNVL = DynamicTilesSpec(image=448, min_tiles=1, max_tiles=12, thumbnail=True, mean=GREY, std=GREY)
CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
LLAVA_NEXT = AnyresSpec(image=336, canvases=CANVASES, max_tiles=4, mean=GREY, std=GREY)
PHI3 = HdImageSpec(tile=336, max_tiles=16, may_enlarge=True, pad="around", mean=GREY, std=GREY)
MINICPM = SlicesSpec(side=448, patch=14, max_tiles=9, mean=GREY, std=GREY)
QWEN2 = NativeSpec(cell=28, step_frames=2, min_pixels=3136, max_pixels=12845056, mean=GREY, std=GREY)
LLAVA = FixedSquareSpec(image=336, mode="pad", mean=GREY, std=GREY)
TILED: list[PixelSpec] = [INTERNVL, LLAVA_NEXT, PHI3, MINICPM]
ALL: list[PixelSpec] = [*TILED, QWEN2, LLAVA]


def kind(spec: PixelSpec) -> str:
    return spec.kind


def test_every_kind_is_looked_at_here() -> None:
    assert {type(spec) for spec in ALL} == set(PIXELS)


@pytest.mark.parametrize("spec", TILED, ids=kind)
def test_a_bound_on_tiles_is_kept_by_each_kind_of_tiles(spec: PixelSpec) -> None:
    asked = Fineness(max_tiles=2)
    assert faults(spec, asked) == []
    plan, usual = looked_at(spec, asked).plan(2400, 1500), spec.plan(2400, 1500)
    assert 1 < plan.num_tiles <= 3 < usual.num_tiles  # the whole picture beside two tiles
    assert looked_at(spec, AS_DEPLOYED) == spec


@pytest.mark.parametrize("spec", ALL, ids=kind)
def test_more_detail_costs_more_where_there_is_more(spec: PixelSpec) -> None:
    def cost(asked: Fineness) -> int:
        plan = looked_at(spec, asked).largest()
        return plan.num_tiles * plan.grid[0] * plan.grid[1]

    low, medium, high, auto = (cost(Fineness(detail=detail)) for detail in ("low", "medium", "high", "auto"))
    assert low <= medium <= high == auto
    assert (low < medium < high) == bool(spec.options)


@pytest.mark.parametrize("spec", ALL, ids=kind)
def test_no_bound_makes_a_picture_dearer_than_the_deployment_s(spec: PixelSpec) -> None:
    for word, ours in BOUNDS.items():
        if ours not in spec.options:
            found = faults(spec, Fineness.of(None, {word: 1}))
            assert f"`{word}`: this model's pictures have no such option" in found[0]
            continue
        most = getattr(spec, ours.replace("min_", "max_"))
        assert faults(spec, Fineness.of(None, {word: most})) == []
        (above,) = faults(spec, Fineness.of(None, {word: most + 1}))
        assert above.startswith(f"`{word}`={most + 1:,}: must be at most {most:,}")


def test_a_model_without_options_says_so() -> None:
    [fault] = faults(LLAVA, Fineness(max_tiles=4))
    assert fault == "`max_dynamic_patch`: this model's pictures have no such option, but `detail` alone"


def test_bounds_that_do_not_go_together_are_named_in_the_request_s_words() -> None:
    [crossed] = faults(INTERNVL, Fineness(min_tiles=6, max_tiles=3))
    assert crossed == "`min_dynamic_patch`=6: must not exceed `max_dynamic_patch`=3"
    [small] = faults(QWEN2, Fineness(max_pixels=100))
    assert small == "`max_pixels`=100: must hold one cell, 784 pixels"
    [few] = faults(LLAVA_NEXT, Fineness(max_tiles=1))
    assert few == "`max_dynamic_patch`=1: must be at least 2, the smallest grid it knows"
    [twice] = faults(INTERNVL, Fineness(detail="low", max_tiles=3))
    assert twice.startswith("`detail: low` beside `max_dynamic_patch`")


def test_a_bound_below_the_deployment_s_least_lowers_that_too() -> None:
    own = replace(INTERNVL, min_tiles=4)
    asked = Fineness(max_tiles=2)
    assert faults(own, asked) == []
    assert looked_at(own, asked).plan(896, 448).num_tiles == 3
    assert looked_at(replace(QWEN2, min_pixels=200 * 784), Fineness(max_pixels=784)).plan(56, 56).grid == (
        1,
        1,
    )


def test_a_picture_that_grows_beyond_the_deployment_s_pixels_is_refused() -> None:
    own = replace(QWEN2, max_pixels=100 * 784)
    asked = Fineness(min_pixels=100 * 784)
    square, long = (looked_at(own, asked).plan(*size) for size in ((28, 28), (280, 28)))
    assert grown_too_far(own, square, asked) is None
    fault = grown_too_far(own, long, asked)
    assert fault is not None and "makes 896x112 pixels of 280x28, more than the 78,400" in fault
