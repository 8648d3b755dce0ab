"""The plan is held to what was measured: InternVL2-8B's shapes, random weights, H200 (docs/benchmarks.md)."""

from dataclasses import replace

import pytest
from plan_cases import case

from deployer.plan.case import Case
from deployer.plan.rates import expected
from deployer.plan.step_times import decode_time, decoder_work, encode_time, prefill_time
from deployer.plan.weight_bytes import weight_parts
from engines.quant.weight_quant import WeightFormat

BATCHES = (1, 8, 32, 64, 128, 256)
CONTEXT = 1024 + 128 // 2  # halfway through the answers
# weights, KV, ranks -> tok/s while so many sequences decode, prompt tok/s of 2,048-token prompts
MEASURED: dict[tuple[WeightFormat | None, str, int], tuple[tuple[float, ...], float | None]] = {
    (None, "none", 1): ((252.7, 1869, 5897, 9377, 13328, 15839), 43401),
    (None, "int8", 1): ((249.8, 1869, 6341, 10447, 14984, 18083), None),
    ("fp8", "fp8", 1): ((349.2, 2558, 8452, 12977, 17283, 20282), 69790),
    ("awq", "int8", 1): ((404.6, 3135, 9482, 13158, 17113, 17867), 44790),
    (None, "none", 2): ((332.4, 2486, 8024, 13252, 19962, 21809), 73976),
}
NAMES = ["-".join(str(part or "bfloat16") for part in key) for key in MEASURED]


def as_measured(weights: WeightFormat | None, kv: str, tp: int) -> Case:
    made = case(weights=weights, tp=tp)
    return replace(made, options=replace(made.options, kv=replace(made.options.kv, format=kv)))


@pytest.mark.parametrize("key", MEASURED, ids=NAMES)
def test_a_decode_step_takes_what_was_measured_within_a_fifth(
    key: tuple[WeightFormat | None, str, int],
) -> None:
    what = as_measured(*key)
    work, rates = decoder_work(what, weight_parts(what)), expected(what)
    assert rates is not None
    for batch, tokens_per_s in zip(BATCHES, MEASURED[key][0], strict=True):
        planned_s = decode_time(what, work, rates, batch=batch, context=CONTEXT).total_s
        assert planned_s == pytest.approx(batch / tokens_per_s, rel=0.2), batch


@pytest.mark.parametrize("key", [key for key in MEASURED if MEASURED[key][1]], ids=str)
def test_reading_prompts_takes_what_was_measured_within_a_tenth(
    key: tuple[WeightFormat | None, str, int],
) -> None:
    what = as_measured(*key)
    work, rates = decoder_work(what, weight_parts(what)), expected(what)
    assert rates is not None
    planned = 16 * 2048 / prefill_time(what, work, rates, tokens=2048, prompts=16).total_s
    assert planned == pytest.approx(MEASURED[key][1], rel=0.1)


@pytest.mark.parametrize(("tiles", "tokens", "batch", "per_s"), [(1, 306, 256, 82.9), (13, 3378, 64, 8.7)])
def test_pictures_are_answered_at_the_measured_rate_within_a_fifth(
    tiles: int, tokens: int, batch: int, per_s: float
) -> None:
    what, output_tokens = case(), 64
    parts, rates = weight_parts(what), expected(what)
    work = decoder_work(what, parts)
    assert rates is not None
    encode_s = encode_time(what, parts, rates, tiles=tiles)
    read_s = prefill_time(what, work, rates, tokens=tokens, prompts=batch).total_s / batch
    step_s = decode_time(what, work, rates, batch=batch, context=tokens + output_tokens // 2).total_s
    assert 1 / (encode_s + read_s + output_tokens * step_s / batch) == pytest.approx(per_s, rel=0.2)
