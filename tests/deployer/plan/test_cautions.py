from dataclasses import replace
from typing import Any

import pytest
from plan_cases import case, options, with_copy

from deployer.plan.case import Case
from deployer.plan.cautions import cautions
from deployer.plan.figures import figures_of


def said(what: Case) -> str:
    """Return all cautions as one text."""
    return "\n".join(cautions(what, figures_of(what, options())))


def with_decoder(what: Case, **changes: Any) -> Case:
    """Return the case with another decoder."""
    return replace(what, spec=replace(what.spec, decoder=replace(what.spec.decoder, **changes)))


def with_engine(what: Case, **changes: Any) -> Case:
    """Return the case with other engine options."""
    return replace(what, options=replace(what.options, **changes))


def test_a_plain_case_gets_no_caution() -> None:
    assert said(case("76b", tp=1, device="h200", spec=with_decoder(case(), vocab=92_608).spec)) == ""


def test_an_odd_vocabulary_is_named_with_its_padding() -> None:
    assert "the vocabulary has 92,553 rows: embedding and head are padded to 92,608" in said(case())


def test_a_second_copy_that_is_too_large_is_told_with_what_it_takes() -> None:
    told = said(with_copy(case("26b")))
    assert "there is no second copy of the weights for decode: it takes 26.96 GiB, 19.3% of" in told
    for silent in (with_copy(case()), case("26b"), with_copy(case("26b", weights="fp8"))):
        assert "second copy" not in said(silent)


def test_a_second_copy_that_nothing_would_read_is_told_where_a_share_is_given() -> None:
    assert "decode: what reads it is made for compute capability 8.0 and newer, not 7.5" in said(
        with_engine(with_copy(case("1b", device="t4")), dtype="bfloat16")
    )
    assert "steps of up to 16 rows read it, and engine.max_batch_size=128 lets more" in said(
        with_copy(case(device="a100"))
    )
    assert "decode: an engine in float16 reads none" in said(with_engine(with_copy(case()), dtype="float16"))
    assert "second copy" not in said(case(device="a100"))


def test_fp8_layers_without_a_copy_are_told_beside_a_head_that_has_one() -> None:
    few = replace(case().options.scheduler, max_batch_size=16)
    older, newest = (with_copy(case(device=name, weights="fp8")) for name in ("a100", "h200"))
    assert "fp8 layers have no second copy, decode reads their 8 bits: what reads e4m3 layers in 7" in said(
        with_engine(older, scheduler=few)
    )
    assert "second copy" not in said(with_engine(newest, scheduler=few))


def test_a_tied_head_is_counted_and_said() -> None:
    assert "ties the head" in said(with_decoder(case(), tied_head=True))
    assert "ties the head" not in said(case())


def test_ranks_above_the_kv_heads_store_them_again() -> None:
    what = with_decoder(case(tp=4), num_kv_heads=2)
    assert "engine.tp=4 is above the 2 KV heads: ranks store the same head 2 times" in said(what)


def test_the_tower_on_every_rank_is_named_with_its_bytes() -> None:
    assert "every one of the 2 ranks holds the vision tower and projector (0.63 GiB)" in said(case(tp=2))
    assert "every one" not in said(case())


def test_a_cache_shorter_than_a_session_is_named() -> None:
    kv = replace(case().options.kv, num_pages=100)
    text = said(with_engine(case(), kv=kv))
    assert "KV pages hold 6,400 tokens, fewer than the 32,768 of a full sequence" in text
    assert "KV pages hold 2 requests of the priced kind (3,072 tokens)" in text


def test_a_session_beyond_the_model_is_named() -> None:
    stretched = with_decoder(case(), rope=case().spec.decoder.rope.rescaled(4.0, max_positions=32768))
    scheduler = replace(stretched.options.scheduler, session_len=65536)
    text = said(with_engine(stretched, scheduler=scheduler, rope_scaling_factor=4.0))
    assert "engine.session_len=65536: the model was made for 32,768 tokens" in text


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", True), ("float16", False)])
def test_a_dtype_without_units_is_named(dtype: str, expected: bool) -> None:
    what = with_engine(case("2b", device="t4"), dtype=dtype)
    assert ("t4 has no matrix units for engine.dtype=bfloat16" in said(what)) is expected
    assert ("planned in float16" in said(what)) is not expected


def test_weights_without_units_save_memory_only() -> None:
    assert "a100 has no fp8 units" in said(case(device="a100", weights="fp8"))
    assert "units" not in said(case(device="h100", weights="fp8"))


def test_datasheet_figures_are_called_limits() -> None:
    assert "a100 has datasheet peaks only" in said(case(device="a100"))
    int8 = case(weights="int8")
    assert int8.hardware.shares is not None and "nothing was measured" not in said(int8)
    shares = replace(int8.hardware.shares, linear_int8=None)
    unmeasured = replace(int8, hardware=replace(int8.hardware, shares=shares))
    assert "nothing was measured with int8 weights and none KV on h200" in said(unmeasured)
    assert "limits" not in said(case())


def test_an_engine_that_was_not_run_on_the_device_is_named() -> None:
    assert "engine=turbomind" not in said(case(device="h100"))
    assert "has not been run on compute capability 8.9 yet: engine=auto takes pytorch" in said(
        case(device="l40s")
    )
    torch_engine = with_engine(case(device="l40s"), kind="pytorch")
    assert "engine=auto takes pytorch on compute capability 8.9" in said(torch_engine)
    assert "engine=turbomind" not in said(with_engine(case(device="v100"), kind="pytorch"))
