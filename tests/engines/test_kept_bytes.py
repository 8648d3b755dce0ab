from dataclasses import replace

from plan_cases import case

from engines.kept_bytes import kept_bytes
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec


def test_a_model_with_vision_keeps_tables_rows_and_the_cache() -> None:
    kept = kept_bytes(case().spec, case().options, itemsize=2)
    assert kept.penalties == 128 * 92_553 * 5
    assert kept.picture_rows == 2 * (8192 + 13 * 256) * 4096 * 2
    assert kept.picture_cache == 1 << 28
    assert kept.total == kept.penalties + kept.picture_rows + kept.picture_cache


def test_a_text_model_keeps_penalty_tables_alone() -> None:
    kept = kept_bytes(replace(case().spec, vision=None), case().options, itemsize=2)
    assert kept.total == kept.penalties > 0


def test_a_single_tile_has_no_thumbnail() -> None:
    vision = case().spec.vision
    assert vision is not None
    pixels = vision.pixels
    assert isinstance(pixels, DynamicTilesSpec)
    assert pixels.largest().num_tiles == 13
    assert replace(pixels, max_tiles=1).largest().num_tiles == 1
    assert replace(pixels, thumbnail=False).largest().num_tiles == 12
