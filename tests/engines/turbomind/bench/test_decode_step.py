"""What the words of the decode step's bench ask for, and its floor."""

import pytest

from engines.turbomind.bench.decode_step import BATCHES, USUAL, asked_for, floor_us


def test_words_are_batch_sizes_variants_and_a_format() -> None:
    asked = asked_for(["fp8", "1", "64", "kv-fp8"])
    assert (asked.batches, asked.variants, asked.kv, asked.profile) == ((1, 64), ("fp8",), "fp8", False)
    usual = asked_for(["profile"])
    assert (usual.batches, usual.variants, usual.kv, usual.profile) == (BATCHES, USUAL, "none", True)


def test_a_variant_runs_again_with_weights_in_12_bits_where_that_is_asked_for() -> None:
    assert asked_for(["engine", "bf12"]).bf12
    assert not asked_for(["engine"]).bf12


def test_a_word_that_is_unknown_is_refused() -> None:
    with pytest.raises(SystemExit, match="words `kv-fp9`: must be batch sizes or bf12, cublas, engine"):
        asked_for(["fp8", "kv-fp9"])


def test_a_floor_falls_with_the_bytes_of_keys_and_values() -> None:
    limits = {"gbps": 4300.0, "tflops": 790.0}
    wide, narrow = (floor_us(256, kv, **limits) for kv in ("none", "fp8"))
    assert wide - narrow == pytest.approx(4200, rel=0.05)  # half of 36.5 GB
