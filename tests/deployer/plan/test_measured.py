"""The plan is held to what was measured: InternVL2-8B's shapes, random weights, H200 (docs/benchmarks.md)."""

from dataclasses import replace

import pytest
from plan_cases import case, with_copy

from deployer.plan.case import Case
from deployer.plan.decoder_work import decoder_work
from deployer.plan.rates import expected
from deployer.plan.step_times import decode_time, encode_time, prefill_time
from deployer.plan.weight_bytes import weight_parts
from engines.quant.weight_quant import WeightFormat

BATCHES = (1, 8, 32, 64, 128, 256)
CONTEXT = 1024 + 128 // 2  # halfway through the answers
Key = tuple[WeightFormat | None, str, int, float]
# weights, KV, ranks, share for a copy -> tok/s while so many sequences decode, prompt tok/s of
# 2,048-token prompts
MEASURED: dict[Key, tuple[tuple[float, ...], float | None]] = {
    (None, "none", 1, 0.0): ((263.7, 1919, 6175, 9803, 13416, 15617), 45357),
    (None, "none", 1, 0.15): ((332.7, 2473, 7697, 11527, 14155, 16068), 45223),
    (None, "bf12", 1, 0.15): ((326.2, 2473, 8076, 11950, 15478, 17212), None),
    (None, "int8", 1, 0.15): ((329.0, 2567, 8732, 13784, 18146, 20679), None),
    (None, "int8", 1, 0.0): ((263.6, 1948, 6789, 11511, 16610, 20344), 44489),
    (None, "int4", 1, 0.0): ((259.5, 1918, 6993, 12180, 18220, 23177), 44725),
    ("fp8", "fp8", 1, 0.15): ((479.0, 3572, 11450, 17286, 23276, 26359), 74947),
    ("int8", "int8", 1, 0.0): ((414.5, 3050, 10061, 15738, 22010, 25655), 79549),
    ("awq", "int8", 1, 0.15): ((668.2, 4755, 13128, 17156, 20554, 21232), 47206),
    (None, "none", 4, 0.0): ((450.9, 3210, 10865, 17640, 27277, 37080), 120718),
    (None, "none", 4, 0.15): ((509.9, 3634, 12655, 19987, 28872, 38379), None),
    ("fp8", "fp8", 4, 0.15): ((588.0, 4156, 14749, 23186, 35856, 47971), None),
}
NAMES = ["-".join(str(part or "bfloat16") for part in key) for key in MEASURED]


def as_measured(weights: WeightFormat | None, kv: str, tp: int, share: float) -> Case:
    made = with_copy(case(weights=weights, tp=tp), share)
    return replace(made, options=replace(made.options, kv=replace(made.options.kv, format=kv)))


@pytest.mark.parametrize("key", MEASURED, ids=NAMES)
def test_a_decode_step_takes_what_was_measured_within_a_fifth(
    key: Key,
) -> None:
    what = as_measured(*key)
    work, rates = decoder_work(what, weight_parts(what)), expected(what)
    assert rates is not None
    for batch, tokens_per_s in zip(BATCHES, MEASURED[key][0], strict=True):
        planned_s = decode_time(what, work, rates, batch=batch, context=CONTEXT).total_s
        assert planned_s == pytest.approx(batch / tokens_per_s, rel=0.2), batch


@pytest.mark.parametrize("key", [key for key in MEASURED if MEASURED[key][1]], ids=str)
def test_reading_prompts_takes_what_was_measured_within_a_tenth(
    key: Key,
) -> None:
    what = as_measured(*key)
    work, rates = decoder_work(what, weight_parts(what)), expected(what)
    assert rates is not None
    planned = 16 * 2048 / prefill_time(what, work, rates, tokens=2048, prompts=16).total_s
    assert planned == pytest.approx(MEASURED[key][1], rel=0.1)


@pytest.mark.parametrize(("tiles", "tokens", "batch", "per_s"), [(1, 306, 256, 90.2), (13, 3378, 64, 9.1)])
def test_pictures_are_answered_at_the_measured_rate_within_a_fifth(
    tiles: int, tokens: int, batch: int, per_s: float
) -> None:
    what, output_tokens = case(), 64
    parts, rates = weight_parts(what), expected(what)
    work = decoder_work(what, parts)
    assert rates is not None
    assert what.spec.vision is not None
    encode_s = encode_time(what, parts, rates, tiles=tiles, plan=what.spec.vision.pixels.largest())
    read_s = prefill_time(what, work, rates, tokens=tokens, prompts=batch).total_s / batch
    step_s = decode_time(what, work, rates, batch=batch, context=tokens + output_tokens // 2).total_s
    assert 1 / (encode_s + read_s + output_tokens * step_s / batch) == pytest.approx(per_s, rel=0.2)
