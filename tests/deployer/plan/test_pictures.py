from dataclasses import replace

from plan_cases import case

from deployer.plan.decoder_work import decoder_work
from deployer.plan.pictures import PicturePrice, picture_prices
from deployer.plan.rates import limit
from deployer.plan.weight_bytes import weight_parts


def prices(*sizes: list[int]) -> list[PicturePrice]:
    """Return the prices of pictures in InternVL2-8B."""
    parts = weight_parts(case())
    return picture_prices(case(), sizes, parts, decoder_work(case(), parts), limit(case()))


def test_a_picture_costs_its_tiles_and_the_thumbnail() -> None:
    small, wide = prices([448, 448], [1792, 896])
    assert (small.columns, small.rows, small.tiles, small.tokens) == (1, 1, 1, 256)
    assert (wide.columns, wide.rows, wide.tiles, wide.tokens) == (4, 2, 9, 2304)
    assert wide.kv_bytes == 2304 * 131_072


def test_more_tiles_take_longer_to_encode_and_to_read() -> None:
    small, wide = prices([448, 448], [1792, 896])
    assert wide.encode_ms > 8.9 * small.encode_ms
    assert wide.read_ms > 8.9 * small.read_ms


def test_a_text_model_has_no_prices() -> None:
    text = replace(case(), spec=replace(case().spec, vision=None))
    parts = weight_parts(text)
    assert picture_prices(text, [[1, 1]], parts, decoder_work(text, parts), limit(text)) == []
