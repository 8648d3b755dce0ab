from dataclasses import replace

from plan_cases import case

from engines.memory.kept_bytes import kept_bytes
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


def test_quantized_pages_stand_as_numbers_for_chunks() -> None:
    one = case()
    options = replace(one.options, kv=replace(one.options.kv, format="int8"))
    limits = options.scheduler
    spec = one.spec
    row = 2 * spec.decoder.num_kv_heads * spec.decoder.head_dim * 2
    for session_len, tokens in ((1024, 16_384), (100_000, 100_000)):
        own = replace(options, scheduler=replace(limits, session_len=session_len))
        assert kept_bytes(spec, own, itemsize=2).plain_kv == tokens * row
    assert kept_bytes(spec, one.options, itemsize=2).plain_kv == 0
