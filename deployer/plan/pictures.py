"""What pictures of some sizes cost: grid, tiles, tokens, bytes of cache, time to encode and to read them."""

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.decoder_work import DecoderWork
from deployer.plan.rates import Rates
from deployer.plan.step_times import encode_time, prefill_time
from deployer.plan.weight_bytes import WeightPart


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturePrice:
    """One picture."""

    width: int
    height: int
    columns: int
    rows: int
    tiles: int  # thumbnail included
    tokens: int
    kv_bytes: int  # on each rank
    encode_ms: float
    read_ms: float  # its tokens in the decoder


def picture_prices(
    case: Case, sizes: Sequence[Sequence[int]], parts: list[WeightPart], work: DecoderWork, rates: Rates
) -> list[PicturePrice]:
    """Return the price of a picture of each size [width, height]; nothing for a text model."""
    vision = case.spec.vision
    if vision is None:
        return []
    prices = []
    for width, height in sizes:
        plan = vision.pixels.plan(width, height)
        tokens = vision.num_tokens(plan)
        prices.append(
            PicturePrice(
                width=width,
                height=height,
                columns=plan.grid[0],
                rows=plan.grid[1],
                tiles=plan.num_tiles,
                tokens=tokens,
                kv_bytes=tokens * work.kv_token_bytes,
                encode_ms=encode_time(case, parts, rates, tiles=plan.num_tiles, plan=plan) * 1e3,
                read_ms=prefill_time(case, work, rates, tokens=tokens).total_s * 1e3,
            )
        )
    return prices
