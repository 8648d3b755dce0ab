"""Against figures computed by hand for InternVL2-8B on one H200 at 4.3 TB/s and 790 TFLOP/s.

A decode step streams (6,979,321,856 layer + 379,097,088 head weights) * 2 bytes and, for each token of
context, 131,072 bytes of KV; a prompt of 2,048 tokens takes 28.6 TFLOP of matrix products and 1.1 of causal
attention.
"""

from dataclasses import replace

import pytest
from plan_cases import case, with_copy

from deployer.plan.case import Case
from deployer.plan.decoder_work import decoder_work
from deployer.plan.rates import expected, limit
from deployer.plan.step_times import decode_time, encode_time, prefill_time, tile_flops
from deployer.plan.weight_bytes import weight_parts
from engines.quant.weight_quant import WeightQuant


def decode_rate(what: Case, batch: int, context: int = 1024) -> float:
    """Return tokens a second at the limit."""
    work = decoder_work(what, weight_parts(what))
    return batch / decode_time(what, work, limit(what), batch=batch, context=context).total_s


def with_kv(what: Case, form: str) -> Case:
    """Return the case with another KV format."""
    return replace(what, options=replace(what.options, kv=replace(what.options.kv, format=form)))


# Rounded figures at batch 1; else 0.05 %: they count 92,553 rows of the head, we stream the padded 92,608.
@pytest.mark.parametrize(
    ("batch", "tokens_per_s"),
    [(1, 290), (8, 2179), (32, 7238), (64, 11808), (128, 17256), (256, 20063)],
)
def test_the_roofline_gives_the_physical_limits_of_bfloat16(batch: int, tokens_per_s: int) -> None:
    assert decode_rate(case(), batch) == pytest.approx(tokens_per_s, rel=2e-3 if batch == 1 else 5e-4)


@pytest.mark.parametrize(
    ("batch", "tokens_per_s"),
    [(1, 291), (8, 2255), (32, 8159), (64, 14475), (128, 23615), (256, 29209)],
)
def test_an_fp8_cache_halves_the_time_of_attention(batch: int, tokens_per_s: int) -> None:
    # Those rates are of an fp8 cache without scales, which are 1.6 % of its bytes here.
    rate = decode_rate(with_kv(case(), "fp8"), batch)
    assert 1 - 0.016 <= rate / tokens_per_s <= 1.002


def test_what_binds_a_decode_step_moves_from_weights_to_the_cache() -> None:
    work = decoder_work(case(), weight_parts(case()))
    bounds = [
        decode_time(case(), work, limit(case()), batch=batch, context=1024).bound for batch in (1, 64, 256)
    ]
    assert bounds == ["weights", "weights", "kv"]
    many = decode_time(case(), work, limit(case()), batch=1024, context=16)
    assert many.bound == "compute"


@pytest.mark.parametrize(
    ("tokens", "ms"), [(512, 9.1), (1024, 18.4), (2048, 37.6), (4096, 77.9), (8192, 167)]
)
def test_a_prompt_takes_its_operations_at_the_limit(tokens: int, ms: float) -> None:
    work = decoder_work(case(), weight_parts(case()))
    time = prefill_time(case(), work, limit(case()), tokens=tokens)
    assert time.total_s * 1e3 == pytest.approx(ms, rel=6e-3)
    assert time.bound == "compute"


def test_a_short_prompt_is_bound_by_reading_the_weights() -> None:
    work = decoder_work(case(), weight_parts(case()))
    time = prefill_time(case(), work, limit(case()), tokens=16)
    assert time.bound == "weights"
    assert time.linear_s == pytest.approx((6_979_321_856 + 92_608 * 4096) * 2 / 4.3e12)


def test_a_prompt_in_two_steps_costs_what_attention_over_the_first_adds() -> None:
    small = replace(case(), options=replace(case().options, scheduler=_scheduler(1024)))
    work = decoder_work(small, weight_parts(small))
    whole = prefill_time(case(), work, limit(case()), tokens=2048)
    parts = prefill_time(small, work, limit(small), tokens=2048)
    assert parts.attention_s == pytest.approx(whole.attention_s)
    head_row_s = 2 * 92_608 * 4096 / 790e12
    assert parts.linear_s == pytest.approx(whole.linear_s + head_row_s)


def test_a_tile_takes_741_gflop_and_0_94_ms() -> None:
    vision = case().spec.vision
    assert vision is not None
    plan = vision.pixels.largest()
    linear, attention = tile_flops(vision, 4096, plan)
    assert linear / 1e9 == pytest.approx(619 + 17 + 1, abs=1)
    assert attention / 1e9 == pytest.approx(103.3, abs=0.1)
    parts = weight_parts(case())
    for tiles in (1, 7, 13, 40):  # 40: three passes
        seconds = encode_time(case(), parts, limit(case()), tiles=tiles, plan=plan)
        assert seconds / tiles * 1e3 == pytest.approx(0.938, abs=0.001)
    assert encode_time(case(), parts, limit(case()), tiles=0, plan=plan) == 0


def test_two_ranks_halve_the_step_but_for_the_sums_between_them() -> None:
    one, two = case(), case(tp=2)
    alone = decode_time(one, decoder_work(one, weight_parts(one)), limit(one), batch=64, context=1024)
    shared = decode_time(two, decoder_work(two, weight_parts(two)), limit(two), batch=64, context=1024)
    assert shared.linear_s == pytest.approx(alone.linear_s / 2, rel=1e-3)
    assert shared.attention_s == pytest.approx(alone.attention_s / 2)
    # 2 * 32 outputs of 4,096 bfloat16 for each of 64 tokens; of two ranks each sends as much as it sums.
    assert shared.link_s == pytest.approx(64 * 64 * 4096 * 2 / 280e9)


def test_more_ranks_than_kv_heads_read_the_same_keys_twice() -> None:
    two = case("1b", tp=2)
    work = decoder_work(two, weight_parts(two))
    assert work.kv_token_bytes == 2 * 24 * 1 * 64 * 2


def test_expected_times_use_what_was_measured() -> None:
    what = case()
    work, hoped = decoder_work(what, weight_parts(what)), expected(what)
    assert hoped is not None
    best = decode_time(what, work, limit(what), batch=1, context=1024)
    real = decode_time(what, work, hoped, batch=1, context=1024)
    assert real.linear_s == pytest.approx(best.linear_s / 0.96)
    assert real.attention_s == pytest.approx(best.attention_s / 0.96)
    # A layer: 8 * 4,096 in norms, 2 * 128 * 48 in rotation, 3 * 14,336 in the activation, of 2 bytes.
    moved = 32 * 2 * (32_768 + 12_288 + 43_008) + 92_553 * 10
    assert real.other_s == pytest.approx(32 * 10e-6 + 50e-6 + moved / 4.3e12)
    assert best.other_s == 0


def test_the_head_keeps_its_own_share_beside_quantized_layers() -> None:
    what = case(weights="awq")
    work, hoped, shares = decoder_work(what, weight_parts(what)), expected(what), what.hardware.shares
    assert hoped is not None and shares is not None and shares.linear_int4 is not None
    real = decode_time(what, work, hoped, batch=1, context=1)
    assert real.linear_s == pytest.approx(
        (work.layer_bytes / shares.linear_int4[0] + work.head_bytes / shares.linear[0]) / 4.3e12
    )


@pytest.mark.parametrize(("batch", "share"), [(1, 0.75), (128, 0.75), (129, 1.0)])
def test_few_rows_read_the_copy_in_12_bits(batch: int, share: float) -> None:
    plain, copied = case(), with_copy(case())
    before = decode_time(
        plain, decoder_work(plain, weight_parts(plain)), limit(plain), batch=batch, context=1
    )
    after = decode_time(
        copied, decoder_work(copied, weight_parts(copied)), limit(copied), batch=batch, context=1
    )
    assert after.linear_s == pytest.approx(before.linear_s * share, rel=1e-3)  # and a factor an output


@pytest.mark.parametrize(("batch", "share"), [(1, 0.75), (16, 0.75), (17, 1.0)])
def test_on_gpus_before_hopper_fewer_rows_read_the_copy(batch: int, share: float) -> None:
    plain = case(device="a100")
    few = replace(plain.options.scheduler, max_batch_size=16)
    plain = replace(plain, options=replace(plain.options, scheduler=few))
    times = [
        decode_time(what, decoder_work(what, weight_parts(what)), limit(what), batch=batch, context=1)
        for what in (plain, with_copy(plain))
    ]
    assert times[1].linear_s == pytest.approx(times[0].linear_s * share, rel=1e-3)


def test_of_quantized_layers_the_head_alone_is_read_in_12_bits() -> None:
    plain, copied = case(weights="awq"), with_copy(case(weights="awq"))
    before, after = (decoder_work(what, weight_parts(what)) for what in (plain, copied))
    assert (after.layer_copies, before.head_copies, before.saved_bytes) == ((), (), 0)
    (head,) = after.head_copies
    assert head.num_bytes + head.saved_bytes == before.head_bytes
    assert after.saved_bytes == pytest.approx(before.head_bytes / 4, rel=1e-3)


@pytest.mark.parametrize(("batch", "share"), [(1, 0.875), (128, 0.875)])
def test_few_rows_read_e4m3_layers_in_7_bits(batch: int, share: float) -> None:
    what = with_copy(case(weights="fp8"))
    work = decoder_work(what, weight_parts(what))
    took = decode_time(what, work, limit(what), batch=batch, context=1).linear_s * 4.3e12
    assert took == pytest.approx(work.layer_bytes * share + work.head_bytes * 0.75, rel=1e-3)


def test_what_is_expected_of_layers_in_two_formats_is_the_mean_of_their_shares() -> None:
    quant = WeightQuant(format="fp8", decoder_only=True, kept=("re:.*feed_forward.w2",))
    what = with_copy(case(quant=quant))
    shares = what.hardware.shares
    assert shares is not None and shares.linear_bf12 is not None
    measured = replace(shares, linear_fp7=[0.5] * len(shares.linear_tokens))
    what = replace(what, hardware=replace(what.hardware, shares=measured))
    work, hoped = decoder_work(what, weight_parts(what)), expected(what)
    assert hoped is not None
    by_form = {copy.format: copy.num_bytes for copy in work.layer_copies}
    assert by_form.keys() == {"fp7", "bf12"}
    took = decode_time(what, work, hoped, batch=1, context=1).linear_s * 4.3e12
    head = work.head_copies[0].num_bytes
    assert took == pytest.approx(by_form["fp7"] / 0.5 + (by_form["bf12"] + head) / shares.linear_bf12[0])
    unmeasured = replace(what.hardware, shares=replace(measured, linear_fp7=None))
    assert expected(replace(what, hardware=unmeasured)) is None


def test_what_is_expected_of_12_bits_is_a_share_of_their_own_floor() -> None:
    what = with_copy(case())
    work, hoped, shares = decoder_work(what, weight_parts(what)), expected(what), what.hardware.shares
    assert hoped is not None and shares is not None and shares.linear_bf12 is not None
    for batch, share in ((1, shares.linear_bf12[0]), (64, shares.linear_bf12[3])):
        best = decode_time(what, work, limit(what), batch=batch, context=1)
        real = decode_time(what, work, hoped, batch=batch, context=1)
        assert real.linear_s == pytest.approx(best.linear_s / share)
    plain = expected(case())
    assert plain is not None
    many = [decode_time(what, work, rates, batch=256, context=1).linear_s for rates in (hoped, plain)]
    assert many[0] == many[1]
    unmeasured = replace(what.hardware, shares=replace(shares, linear_bf12=None))
    assert expected(replace(what, hardware=unmeasured)) is None


def test_nothing_is_expected_where_nothing_was_measured() -> None:
    assert expected(case(device="a100")) is None
    shares = case().hardware.shares
    assert shares is not None
    for what, unmeasured in (
        (case(weights="int8"), replace(shares, linear_int8=None)),
        (with_kv(case(), "int4"), replace(shares, decode_attention_4bit=None)),
    ):
        assert expected(what) is not None
        assert expected(replace(what, hardware=replace(what.hardware, shares=unmeasured))) is None


def test_an_all_reduce_has_a_measured_start_only_in_the_expectation() -> None:
    two = case(tp=2)
    work, hoped = decoder_work(two, weight_parts(two)), expected(two)
    assert hoped is not None
    best = decode_time(two, work, limit(two), batch=1, context=1)
    real = decode_time(two, work, hoped, batch=1, context=1)
    gathered_s = 92_553 * 2 / 2 / 280e9  # logits of the other rank, which the limit does without
    assert real.link_s - best.link_s == pytest.approx(64 * 12e-6 + gathered_s)


def test_a_sliding_window_bounds_what_is_read() -> None:
    decoder = replace(case().spec.decoder, sliding_window=1024)
    windowed = replace(case(), spec=replace(case().spec, decoder=decoder))
    assert decode_rate(windowed, 8, context=16384) == pytest.approx(decode_rate(case(), 8, context=1024))


def test_a_sliding_window_bounds_what_a_long_prompt_attends_to() -> None:
    decoder = replace(case().spec.decoder, sliding_window=1024)
    windowed = replace(case(), spec=replace(case().spec, decoder=decoder))
    work = decoder_work(windowed, weight_parts(windowed))

    def attention_s(what: Case, tokens: int) -> float:
        return prefill_time(what, work, limit(what), tokens=tokens).attention_s

    assert attention_s(windowed, 1024) == attention_s(case(), 1024)
    # The first 1,024 see half of them on average, all others 1,024.
    assert attention_s(windowed, 131_072) == pytest.approx(attention_s(case(), 1024) * (1 + 2 * 127))


def _scheduler(tokens: int):  # type: ignore[no-untyped-def]  # one field of the shipped options
    return replace(case().options.scheduler, max_prefill_token_num=tokens)
