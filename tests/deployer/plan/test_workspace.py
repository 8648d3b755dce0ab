"""Sums written out for the shipped options: 8,192 prompt tokens and 128 sequences, 16 tiles a pass."""

from dataclasses import replace

import pytest
from plan_cases import case

from deployer.plan.case import Case
from deployer.plan.workspace import (
    chunk_graph_rows,
    decoder_bytes,
    encoder_bytes,
    graph_bytes,
    graph_sizes,
    kernel_bytes,
    sampling_bytes,
)
from engines.memory.kept_bytes import kept_bytes
from engines.options import SpeculationOptions
from engines.spec import AdapterSpec


def with_batch(what: Case, batch: int) -> Case:
    """Return the case with another engine.max_batch_size."""
    scheduler = replace(what.options.scheduler, max_batch_size=batch)
    return replace(what, options=replace(what.options, scheduler=scheduler))


def test_the_ffn_is_the_widest_moment_of_a_step() -> None:
    assert decoder_bytes(case()) == 8320 * ((4 * 4096 + 3 * 14336) * 2 + 128 * 4)


def test_ranks_share_the_ffn_but_not_the_residual() -> None:
    assert decoder_bytes(case(tp=4)) == 8320 * ((4 * 4096 + 3 * 14336 // 4) * 2 + 128 * 4)


def test_attention_is_the_widest_moment_of_a_decoder_with_a_small_ffn() -> None:
    decoder = replace(case().spec.decoder, ffn=1024)
    small = replace(case(), spec=replace(case().spec, decoder=decoder))
    assert decoder_bytes(small) == 8320 * ((4 * 4096 + 3 * 128 * (32 + 8)) * 2 + 128 * 4)


def test_sampling_holds_rows_of_the_whole_vocabulary() -> None:
    assert sampling_bytes(case()) == 128 * 92_553 * 52


def test_the_engines_own_account_of_256_sequences_is_met_within_a_twentieth() -> None:
    """1.68 GiB at the start of InternVL2-8B with engine.max_batch_size=256, docs/plan.md."""
    large = with_batch(case(), 256)
    kept = kept_bytes(large.spec, large.options, itemsize=2).total
    planned = max(decoder_bytes(large), sampling_bytes(large), encoder_bytes(large)) + kept
    assert planned == pytest.approx(1.68 * 2**30, rel=0.05)


def test_an_encoder_pass_holds_the_ffn_of_all_its_tiles() -> None:
    assert encoder_bytes(case()) == 16 * (1025 * 2 * (1024 + 4096) * 2 + 448 * 448 * 3 * 6)
    assert encoder_bytes(case("26b")) == 16 * (1025 * 2 * (3200 + 12800) * 2 + 448 * 448 * 3 * 6)


def test_a_picture_that_comes_whole_is_there_twice_before_a_pass() -> None:
    options = case().options
    large = replace(options, vision=replace(options.vision, uncut_pixels=100_000_000))
    assert encoder_bytes(replace(case(), options=large)) == 800_000_000


def test_a_text_model_needs_no_memory_for_pictures() -> None:
    text = replace(case(), spec=replace(case().spec, vision=None))
    assert encoder_bytes(text) == 0


def test_graphs_are_counted_for_the_engine_that_captures_them() -> None:
    small = with_batch(case(), 4)
    assert graph_sizes(small) == [1, 2, 4]
    assert chunk_graph_rows(small) == [32, *range(64, 513, 64)]
    rows = 512 * (4 * 4096 + 3 * 14336 + 4096) * 2
    nodes = (3 + 9) * 11 * 32 * 2700
    outputs = (7 * (4096 + 92_553) + 9 * 4 * 4096) * 2
    assert graph_bytes(small) == 75_000_000 + rows + nodes + outputs
    how = SpeculationOptions(num_tokens=3, match_tokens=3, max_sequences=1, grammar_tokens=0)
    proposing = replace(
        small, options=replace(small.options, scheduler=replace(small.options.scheduler, speculation=how))
    )
    assert graph_sizes(proposing) == [2, 4, 1, 2, 4]
    more = 2 * 11 * 32 * 2700 + 6 * (4096 + 92_553) * 2
    assert graph_bytes(proposing) == graph_bytes(small) + more
    codes = replace(small, options=replace(small.options, kv=replace(small.options.kv, format="int8")))
    assert graph_bytes(codes) == graph_bytes(small) + 2 * 16_384 * 8 * 128 * 2
    adapted = replace(small, spec=replace(small.spec, adapters=(AdapterSpec(name="fr", folder="/fr"),)))
    assert graph_bytes(adapted) == graph_bytes(small) + nodes + outputs
    plain = replace(case(), options=replace(case().options, kind="pytorch"))
    assert graph_bytes(plain) == 0


def test_what_kernels_keep_between_launches_is_counted_where_they_run() -> None:
    shares = 132 * 2 * 64 * (128 + 8) * 4  # of prefill attention: two consumers an SM, fp32
    halves = 132 * 256 * 128 * 4  # of `linear_even`
    assert kernel_bytes(case()) == shares + halves == 26_492_928
    two_ranks = 2 * 2 * 64 * 32_768 + 2 * 2048 * (2 * 4096 + 4)  # slots of rows, boxes of blocks
    assert kernel_bytes(case(tp=2)) == shares + halves + two_ranks
    older = replace(case(), hardware=replace(case().hardware, capability=[8, 0]))
    assert kernel_bytes(older) == 0
    plain = replace(case(), options=replace(case().options, kind="pytorch"))
    assert kernel_bytes(plain) == 0


GIB = 2**30
CUBLAS_BYTES = 33_600_000


def test_the_largest_step_is_what_the_engine_measured() -> None:
    """`Ready.bytes_by_part` of InternVL2-8B on one H200, 2026-11-22: 8,192 tokens, cuBLAS included."""
    assert _step_gib(kind="turbomind") == pytest.approx(0.942, rel=0.01)
    assert _step_gib(kind="pytorch") == pytest.approx(1.160, rel=0.01)


def test_an_encoder_pass_is_what_was_measured() -> None:
    """The peak of 16 tiles in InternVL2-8B on one H200, 2026-11-22."""
    assert encoder_bytes(case()) / GIB == pytest.approx(0.367, rel=0.01)


def _step_gib(*, kind: str) -> float:
    scheduler = replace(case().options.scheduler, max_prefill_token_num=8192 - 128)
    what = replace(case(), options=replace(case().options, kind=kind, scheduler=scheduler))
    return (decoder_bytes(what) + CUBLAS_BYTES) / GIB
